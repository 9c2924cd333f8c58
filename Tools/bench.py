#!/usr/bin/env python3
"""Measures dlc and the peers in turns, on the workloads of the peer benchmark; Tools/bench starts it.

Each round runs every program once in a process of its own, pinned to --threads CPUs; a figure is the median of the
rounds' medians. Before a workload is timed its results are compared with the recorded ones: outputs of an inference
to 1e-3, the first five losses of a training step to 1e-3 (of ResNet-20 the recorded ones are 3e-4 from those in
double precision; dlc zoo parity asks for 1e-4). The ratio is dlc's time over that of the fastest peer: below 1
dlc is faster.

Of --kind cold the times are those of whole processes that run a program (.dlc) once. Beside them stand compile_ms, a
whole process that compiles the model with an empty cache; cached_ms, one that runs the model itself when the cache has
it; load_ms, from the program's file to its being ready to run; peak_rss_bytes of the run; and idle_cpu, the share of a
core that is used in a second between two runs.
"""
import argparse
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

RUNS = {"resnet50": 20, "bert6_b8": 10, "gpt2_prefill": 10, "gpt_char_large": 5, "ddpm_unet": 7, "resnet20_cifar": 9}


def options():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--dlc", required=True, help="the dlc binary")
    a.add_argument("--bench", required=True, help="the directory of the peer benchmark")
    a.add_argument("--kind", choices=["infer", "train", "micro", "optim", "cold"], help="all when left out")
    a.add_argument("--workload", default="", help="names, comma separated; all when left out")
    a.add_argument("--threads", type=int, choices=[1, 2], help="both when left out")
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--peer", default="", help="peers, comma separated; all when left out")
    a.add_argument("--json", help="also write a JSON object per line to this file")
    a.add_argument("--history", default=".build/bench/history.jsonl", help="the file that results are added to")
    a.add_argument("--cache", default=os.environ.get("DLC_BENCH_CACHE", os.path.abspath(".build/bench/cache")),
                   help="where the workloads' files are, or go")
    return a.parse_args()


o = options()
o.dlc, o.bench, o.cache = map(os.path.abspath, (o.dlc, o.bench, o.cache))
os.environ["DLC_BENCH_CACHE"] = o.cache
sys.path.insert(0, o.bench)
import numpy as np  # noqa: E402
import models  # noqa: E402
import peers  # noqa: E402

scratch = tempfile.mkdtemp()


def pin(threads):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def run(command, threads, check=True, env=None, memory=False):
    """(standard output, wall seconds) of a command on so many CPUs; with `memory` also the most bytes it had resident."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        p = subprocess.Popen(command, stdout=out, stderr=err, env=env, preexec_fn=lambda: pin(threads))
        # Of this process alone: RUSAGE_CHILDREN has the most of all that ever ran.
        _, status, usage = os.wait4(p.pid, 0)
        seconds = time.perf_counter() - start
        p.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        said, complaint = out.read().decode(errors="replace"), err.read().decode(errors="replace")
    if check and p.returncode != 0:
        raise RuntimeError(" ".join((complaint or said).split())[-300:])
    return (said, seconds, usage.ru_maxrss * 1024) if memory else (said, seconds)


def prepare(kind, name):
    """Has the benchmark write the files of a workload that are missing."""
    folder = {"cold": "infer"}.get(kind, kind)
    if folder in ("infer", "train") and not os.path.exists(f"{o.cache}/{folder}/{name}.npz"):
        subprocess.run([sys.executable, "-W", "ignore", "models.py", "--only", name], cwd=o.bench, check=True,
                       stdout=subprocess.DEVNULL)


def inputs(name):
    """The arrays of an inference under the names of its inputs."""
    path = f"{scratch}/{name}.npz"
    if not os.path.exists(path):
        with np.load(f"{o.cache}/infer/{name}.npz") as f:
            np.savez(path, **{k[2:]: f[k] for k in f.files if k.startswith("i/")})
    return path


def micro(name):
    """The model of a single operation, and its sizes."""
    op, _, sizes = name.partition("_")
    n = [int(x) for x in re.findall(r"\d+", sizes)]
    model, dims = {
        "sgemm": ("matmul", "MNK"), "conv3x3": ("conv3x3", "BCHWO"), "depthwise3x3": ("depthwise3x3", ""),
        "softmax": ("softmax", "ND"), "layernorm": ("layer_norm", "ND"), "gelu": ("gelu", ""),
        "attention": ("attention", "BHTD"),
    }[op]
    return model, [x for d, v in zip(dims, n) for x in ("--dim", f"{d}={v}")]


class Dlc:
    """One workload for dlc: built and checked once, then timed."""

    def __init__(self, kind, name, threads):
        self.kind, self.name, self.threads, self.extra = kind, name, threads, {}
        if kind == "infer":
            self.check()
        if kind in ("micro", "optim"):
            model, self.dims = micro(name) if kind == "micro" else (name, [])
            run([o.dlc, "zoo", "build", model, "-o", scratch], threads)
            self.model = f"{scratch}/{model}.pb"
        if kind == "cold":
            self.model = f"{scratch}/{name}.dlc"
            self.check()
            self.figures = {}

    def check(self):
        out = f"{scratch}/out.npz"
        run([o.dlc, "run", f"{o.cache}/infer/{self.name}.onnx", "--inputs", inputs(self.name), "--outputs", out,
             "--threads", str(self.threads)], self.threads)
        with np.load(out) as got, np.load(f"{o.cache}/infer/{self.name}.npz") as want:
            for i in range(3):
                if f"o/{i}" not in want.files:
                    continue
                a, b = got[f"o{i}"].astype(float), want[f"o/{i}"].astype(float)
                error = float(np.abs(a - b).max() / max(1e-12, np.abs(b).max()))
                if not error <= 1e-3:
                    raise RuntimeError(f"output {i} differs from the recorded one by {error:.1e}")

    def time(self):
        """Milliseconds."""
        t = ["--threads", str(self.threads)]
        if self.kind == "train":
            out, _ = run([o.dlc, "zoo", "parity", f"{o.cache}/train", "--only", self.name,
                          "--runs", str(RUNS.get(self.name, 21))] + t, self.threads, check=False)
            line = next((x for x in out.splitlines() if x.startswith(self.name + " ")), "- nan").split()
            if not float(line[1]) <= 1e-3:
                raise RuntimeError(f"the first five losses differ from the recorded ones by {line[1]}")
            self.extra["compile_ms"] = float(line[-2])
            return float(line[-1])
        if self.kind == "cold":
            return self.cold(t)
        command = [o.dlc, "bench", "--json"] + t
        if self.kind == "infer":
            command += [f"{o.cache}/infer/{self.name}.onnx", "--inputs", inputs(self.name)]
        else:
            command += [self.model] + self.dims
        r = json.loads(run(command, self.threads)[0])
        self.extra = {k: r[k] for k in ("compile_ms", "load_ms", "peak_rss_bytes", "arena_bytes")}
        return r["median_ms"]


    def cold(self, t):
        """Milliseconds of a process that runs the program once; the other figures go to `extra`, as medians."""
        source = f"{o.cache}/infer/{self.name}.onnx"
        arrays = ["--inputs", inputs(self.name), "--outputs", f"{scratch}/o.npz"]
        with tempfile.TemporaryDirectory(dir=scratch) as empty:
            fresh = dict(os.environ, XDG_CACHE_HOME=empty)
            compiling = run([o.dlc, "compile", source, "-o", self.model], self.threads, env=fresh)[1]
            run([o.dlc, "run", source] + arrays + t, self.threads, env=fresh)
            cached = run([o.dlc, "run", source] + arrays + t, self.threads, env=fresh)[1]
        _, seconds, rss = run([o.dlc, "run", self.model] + arrays + t, self.threads, memory=True)
        bench = [o.dlc, "bench", self.model, "--inputs", inputs(self.name), "--json", "--idle", "--runs", "1"]
        bench = json.loads(run(bench + t, self.threads)[0])
        for key, value in (("compile_ms", 1e3 * compiling), ("cached_ms", 1e3 * cached), ("load_ms", bench["load_ms"]),
                           ("peak_rss_bytes", rss), ("idle_cpu", bench["idle_cpu"])):
            self.figures.setdefault(key, []).append(value)
        self.extra = {k: round(statistics.median(v), 6 if k == "idle_cpu" else 3) for k, v in self.figures.items()}
        self.extra["peak_rss_bytes"] = int(self.extra["peak_rss_bytes"])
        self.extra["arena_bytes"] = bench["arena_bytes"]
        return 1e3 * seconds


def peer_time(kind, name, peer, threads):
    """Milliseconds, or None when the peer fails."""
    out, _ = run([sys.executable, "-W", "ignore", f"{o.bench}/peers.py", "--kind", kind, "--workload", name, "--peer",
                  peer, "--threads", str(threads), "--json"], os.cpu_count(), check=False)
    for line in out.splitlines():
        r = json.loads(line)
        if "ms" in r:
            return r["ms"]
    return None


def measure(kind, name, threads):
    prepare(kind, name)
    known = [p for p in peers.KINDS[kind][1] if peers.applies(kind, name, p)]
    used = [p for p in known if not o.peer or p in o.peer.split(",")]
    mine, theirs = [], {p: [] for p in used}
    dlc = Dlc(kind, name, threads)
    for _ in range(o.rounds):
        mine.append(dlc.time())
        for p in list(theirs):
            ms = peer_time(kind, name, p, threads)
            if ms is None:
                del theirs[p]
            else:
                theirs[p].append(ms)
    result = {p: round(statistics.median(t), 4) for p, t in theirs.items()}
    best = min(result, key=result.get) if result else None
    ms = statistics.median(mine)
    return dict(kind=kind, workload=name, threads=threads, dlc_ms=round(ms, 4), peers=result, best_peer=best,
                ratio=round(ms / result[best], 4) if best else None, **dlc.extra)


def cell(x):
    return "" if x is None else f"{x:.0f}" if x >= 1000 else f"{x:.3g}"


def table(results):
    """Markdown, with the geometric mean of the ratios."""
    for kind, threads in dict.fromkeys((r["kind"], r["threads"]) for r in results):
        rows = [r for r in results if (r["kind"], r["threads"]) == (kind, threads)]
        names = [p for p in peers.KINDS[kind][1] if any(p in r["peers"] for r in rows)]
        print(f"\n{kind}, {threads} thread{'s' * (threads > 1)} (ms; ratio = dlc / best peer)\n")
        print("| " + " | ".join(["workload", "dlc"] + names + ["ratio"]) + " |\n|---|" + "---:|" * (len(names) + 2))
        for r in rows:
            cells = [cell(r["peers"].get(p)) for p in names]
            ratio = "" if r["ratio"] is None else format(r["ratio"], ".2f")
            print("| " + " | ".join([r["workload"], cell(r["dlc_ms"])] + cells + [ratio]) + " |")
        ratios = [r["ratio"] for r in rows if r["ratio"]]
        if ratios:
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            print("| geometric mean |" + " |" * (len(names) + 1) + f" {mean:.2f} |")


def cold_table(results):
    """The figures of cold starts that peers have no like of."""
    rows = [r for r in results if r["kind"] == "cold"]
    if rows:
        print("\n| cold | threads | compile ms | run from the cache ms | run of the program ms | load ms | peak RSS MiB "
              "| idle CPU % |\n|---|" + "---:|" * 7)
    for r in rows:
        print(f"| {r['workload']} | {r['threads']} | {cell(r['compile_ms'])} | {cell(r['cached_ms'])} | {cell(r['dlc_ms'])} "
              f"| {cell(r['load_ms'])} | {cell(r['peak_rss_bytes'] / 2**20)} | {100 * r['idle_cpu']:.2f} |")


def cpu():
    if os.path.exists("/proc/cpuinfo"):
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    kinds = [o.kind] if o.kind else ["infer", "train", "micro", "optim", "cold"]
    wanted = o.workload.split(",") if o.workload else []
    known = {n for k in kinds for n in peers.KINDS[k][0]}
    for name in wanted:
        if name not in known:
            sys.exit(f"Tools/bench: there is no workload '{name}'; the workloads are {', '.join(sorted(known))}")
    results, failed = [], False
    lines = open(o.json, "w") if o.json else None
    os.makedirs(os.path.dirname(os.path.abspath(o.history)), exist_ok=True)
    for kind in kinds:
        for name in [n for n in peers.KINDS[kind][0] if not wanted or n in wanted]:
            for threads in [o.threads] if o.threads else [2, 1]:
                try:
                    r = measure(kind, name, threads)
                except (RuntimeError, subprocess.CalledProcessError) as e:
                    print(f"{kind} {name} {threads}: {e}", file=sys.stderr)
                    failed = True
                    continue
                results.append(r)
                print(f"{kind} {name} {threads}: {r['dlc_ms']} ms, "
                      + (f"{r['best_peer']} {r['peers'][r['best_peer']]} ms, ratio {r['ratio']}" if r["best_peer"] else "no peer"),
                      file=sys.stderr)
                if lines:
                    lines.write(json.dumps(r) + "\n")
                    lines.flush()
                with open(o.history, "a") as f:
                    f.write(json.dumps(dict(r, time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), cpu=cpu())) + "\n")
    table(results)
    cold_table(results)
    sys.exit(failed)


main()
