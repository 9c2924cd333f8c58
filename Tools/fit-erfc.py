"""Fits the polynomials of erf and erfc in Sources/DLCCodegen; prints them as Swift literals.

erfc(x) = exp(-x^2) q(t) / (1 + 2 x) for x >= 0 with t = (x - k) / (x + k); erf(x) = x p(x^2) for small x.
Needs mpmath. The tests measure the error of what stands in the sources.
"""
import mpmath as mp

mp.mp.dps = 60


def chebyshev(f, a, b, degree):
    """Monomial coefficients, lowest first, of the Chebyshev interpolant in u in [-1, 1]."""
    n = degree + 1
    nodes = [mp.cos(mp.pi * (2 * j + 1) / (2 * n)) for j in range(n)]
    values = [f((a + b) / 2 + (b - a) / 2 * u) for u in nodes]
    c = [2 / mp.mpf(n) * sum(v * mp.cos(mp.pi * k * (2 * j + 1) / (2 * n)) for j, v in enumerate(values))
         for k in range(n)]
    c[0] /= 2
    t0, t1 = [mp.mpf(1)], [mp.mpf(0), mp.mpf(1)]
    out = [mp.mpf(0)] * n
    for k in range(n):
        t = t0 if k == 0 else t1
        if k >= 2:
            t = [mp.mpf(0)] + [2 * x for x in t1]
            for i, x in enumerate(t0):
                t[i] -= x
            t0, t1 = t1, t
        for i, x in enumerate(t):
            out[i] += c[k] * x
    return out


def rescale(c, a, b):
    """From u in [-1, 1] to v in [a, b]."""
    s, m = 2 / (mp.mpf(b) - a), (mp.mpf(a) + b) / 2
    out = [mp.mpf(0)] * len(c)
    for k, x in enumerate(c):
        for i in range(k + 1):
            out[i] += x * s ** k * mp.binomial(k, i) * (-m) ** (k - i)
    return out


def show(name, c):
    print(name, "[" + ", ".join(mp.nstr(x, 19) for x in c) + "]")


def fit(k, top, degree):
    lo, hi = mp.mpf(-1), (mp.mpf(top) - k) / (top + k)
    def g(t):
        x = k * (1 + t) / (1 - t)
        return (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x)
    c = rescale(chebyshev(g, lo, hi, degree), lo, hi)
    worst = 0
    for j in range(400):
        t = lo + (hi - lo) * j / 399
        worst = max(worst, abs(sum(x * t ** i for i, x in enumerate(c)) / g(t) - 1))
    return c, worst


if __name__ == "__main__":
    for name, top, degree in [("erfcFloat", 10.1, 10), ("erfcDouble", 27.3, 26)]:
        c, worst = fit(mp.mpf(2), top, degree)
        print("//", name, "relative error", mp.nstr(worst, 3))
        show(name, c)
    for name, top, degree in [("erfFloat", 1, 7), ("erfDouble", 1, 14)]:
        h = lambda v: mp.erf(mp.sqrt(v)) / mp.sqrt(v) if v > 0 else 2 / mp.sqrt(mp.pi)
        c = rescale(chebyshev(h, mp.mpf(0), mp.mpf(top), degree), 0, top)
        worst = max(abs(sum(x * (mp.mpf(j) / 200) ** i for i, x in enumerate(c)) / h(mp.mpf(j) / 200) - 1) for j in range(1, 201))
        print("//", name, "relative error", mp.nstr(worst, 3))
        show(name, c)
