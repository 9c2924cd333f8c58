"""Fits the polynomials in Sources/DLCCodegen/FloatMath.swift; prints them as Swift literals.

exponentialFloat: (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2.
erfFloat: -ln erfc(x) / x for 0 <= x <= 3.93, where 1 - e^-u of it is wanted.
erfcFloat: e^(x^2) erfc(x) for 0 <= x <= 10.1, a quotient.
erfcDouble: (1 + 2 x) e^(x^2) erfc(x) for 0 <= x <= 27.3 in t = (x - 2) / (x + 2).
erfDouble: erf(x) / x for 0 <= x <= 1 in x^2.
Needs mpmath. The tests measure the error of what stands in the sources.
"""
import mpmath as mp

mp.mp.dps = 60


def nodes(a, b, count):
    a, b = mp.mpf(a), mp.mpf(b)
    return [(a + b) / 2 + (b - a) / 2 * mp.cos(mp.pi * (2 * j + 1) / (2 * count)) for j in range(count)]


def evaluate(c, x):
    return mp.polyval(c[::-1], x)


def quotient(f, weight, xs, top, bottom, rounds=40):
    """Coefficients of P / Q, lowest first, of degrees top and bottom (Q begins with 1): the smallest weighted error
    on xs, by least squares whose weights follow the error (Lawson), with Q of the round before as a denominator."""
    scale = max(abs(x) for x in xs)
    us, ys, wanted = [x / scale for x in xs], [f(x) for x in xs], [weight(x) for x in xs]
    weights, q, best = [mp.mpf(1)] * len(xs), [mp.mpf(1)] * len(xs), None
    for _ in range(rounds):
        a, b = mp.matrix(len(xs), top + bottom + 1), mp.matrix(len(xs), 1)
        for j, (u, y) in enumerate(zip(us, ys)):
            s = mp.sqrt(weights[j]) * wanted[j] / q[j]
            for i in range(top + 1):
                a[j, i] = s * u**i
            for i in range(1, bottom + 1):
                a[j, top + i] = -s * y * u**i
            b[j] = s * y
        c = list(mp.lu_solve(a.T * a, a.T * b))
        p, d = c[: top + 1], [mp.mpf(1)] + c[top + 1 :]
        q = [abs(evaluate(d, u)) for u in us]
        errors = [abs(w * (evaluate(p, u) / evaluate(d, u) - y)) for u, y, w in zip(us, ys, wanted)]
        worst = max(errors)
        if best is None or worst < best[0]:
            best = worst, [x / scale**i for i, x in enumerate(p)], [x / scale**i for i, x in enumerate(d)]
        weights = [w * (e / worst + mp.mpf("1e-3")) for w, e in zip(weights, errors)]
        total = sum(weights)
        weights = [w / total * len(xs) for w in weights]
    return best


def show(name, worst, *parts, digits):
    print("//", name, "error", mp.nstr(worst, 3))
    for c in parts:
        print("[" + ", ".join(mp.nstr(x, digits) for x in c) + "]")


def single():
    half = mp.log(2) / 2
    worst, p, _ = quotient(lambda r: (mp.exp(r) - 1 - r) / r**2, lambda r: r**2 * mp.exp(-r), nodes(-half, half, 160), 4, 0)
    show("exponentialFloat", worst, p, digits=10)
    # The relative error of erf is that of u times u e^-u / (1 - e^-u).
    u = lambda x: -mp.log(mp.erfc(x))
    worst, p, _ = quotient(lambda x: u(x) / x, lambda x: x * mp.exp(-u(x)) / (1 - mp.exp(-u(x))), nodes(0, 3.93, 160), 8, 0)
    show("erfFloat", worst, p, digits=10)
    g = lambda x: mp.exp(x * x) * mp.erfc(x)
    xs = [2 * (1 + t) / (1 - t) for t in nodes(-1, mp.mpf("8.1") / mp.mpf("12.1"), 160)]
    worst, p, q = quotient(g, lambda x: 1 / g(x), xs, 4, 5, rounds=80)
    show("erfcFloat", worst, p, q, digits=10)


def double():
    top = mp.mpf("25.3") / mp.mpf("29.3")
    def g(t):
        x = 2 * (1 + t) / (1 - t)
        return (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x)
    worst, p, _ = quotient(g, lambda t: 1 / g(t), nodes(-1, top, 80), 26, 0, rounds=20)
    show("erfcDouble", worst, p, digits=19)
    h = lambda v: mp.erf(mp.sqrt(v)) / mp.sqrt(v)
    worst, p, _ = quotient(h, lambda v: 1 / h(v), nodes(0, 1, 60), 14, 0, rounds=20)
    show("erfDouble", worst, p, digits=19)


if __name__ == "__main__":
    single()
    double()
