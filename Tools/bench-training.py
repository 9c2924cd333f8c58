#!/usr/bin/env python3
"""Times training steps of dlc and of PyTorch in alternation, on the same batch, noise and weights.

    VENV/bin/python Tools/bench-training.py BENCH CACHE [--threads 2] [--rounds 3] [--only NAME,...]

BENCH is the peer benchmark's directory, CACHE that of its .npz files (models.py writes them). A figure is
the median of all rounds; the ratio is PyTorch's time over dlc's, so that above 1 dlc is faster.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import time


def torch_times(name, bench, cache, threads, runs):
    code = f"""
import sys, time
sys.path.insert(0, {bench!r})
import torch, models, steps
torch.set_num_threads({threads})
w, d = models.TRAIN[{name!r}], models.load({cache!r} + '/' + {name!r} + '.npz')
step = steps.torch_step(w, d)
noise = {{k: torch.from_numpy(v) for k, v in d['n'].items()}}
for _ in range(2): step(noise)
for _ in range({runs}):
    t = time.perf_counter(); step(noise); print(time.perf_counter() - t)
"""
    env = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env=env)
    return [1e3 * float(line) for line in out.stdout.split()]


def dlc_times(name, cache, threads, runs):
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    out = subprocess.run([f"{root}/.build/release/dlc", "zoo", "parity", cache, "--only", name, "--threads", str(threads), "--runs", str(runs)],
                         capture_output=True, text=True)
    return [float(line.split()[-1]) for line in out.stdout.splitlines()[1:] if line.startswith(name)]


def main():
    a = argparse.ArgumentParser()
    a.add_argument("bench")
    a.add_argument("cache")
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--only", default="")
    a = a.parse_args()
    names = a.only.split(",") if a.only else [
        "mlp_adam", "lenet_momentum", "resnet20_cifar", "lstm_char", "gru_char", "rnn_char", "gpt_char", "gpt_char_large",
        "vae_mnist", "gan_mnist", "ddpm_unet", "realnvp", "rbm_cd1", "gmm_em", "score_dsm", "ebm_langevin"]
    print("| workload | dlc ms | PyTorch ms | ratio |\n|---|---:|---:|---:|")
    for name in names:
        mine, theirs = [], []
        for _ in range(a.rounds):
            mine += dlc_times(name, a.cache, a.threads, 9)
            theirs += torch_times(name, a.bench, a.cache, a.threads, 9)
        x, y = statistics.median(mine), statistics.median(theirs)
        print(f"| {name} | {x:.2f} | {y:.2f} | {y / x:.2f} |", flush=True)


if __name__ == "__main__":
    main()
