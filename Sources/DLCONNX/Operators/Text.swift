import DLCGraph
import DLCTensor

/// Counts of n-grams of integers.
enum TextOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("TfIdfVectorizer", since: 9, inputs: 1, vectorize)
  ]

  private static func vectorize(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let input = try c.operand(0)
    guard let pool = try c.integers("pool_int64s"), let counts = try c.integers("ngram_counts"),
      let indexes = try c.integers("ngram_indexes"), input.rank == 1 || input.rank == 2
    else { throw c.unsupported("n-grams of strings, or without a pool") }
    let g = c.g
    let rows = g.convert(input.rank == 1 ? c.unsqueezed(input, [0]) : input, .int64)
    let length = try c.number(rows.shape[1])
    let shortest = try c.integer("min_gram_length", 1)
    let longest = try c.integer("max_gram_length", 1)
    let skips = try c.integer("max_skip_count", 0)
    let size = (indexes.max() ?? -1) + 1
    let weights = try c.reals("weights")
    guard skips >= 0, skips < 1 << 12, shortest >= 1, (indexes.min() ?? 0) >= 0, size < 1 << 24,
      weights.map({ $0.count >= indexes.count }) ?? true
    else { throw c.fail("its attributes do not fit together") }
    var total = g.constant(0, .float32, [rows.shape[0], Size(size)])
    var first = 0
    for (number, start) in counts.enumerated() {
      let gram = number + 1
      let end = number + 1 < counts.count ? counts[number + 1] : pool.count
      guard start >= 0, start <= end, end <= pool.count, (end - start) % gram == 0 else {
        throw c.fail("ngram_counts \(counts) do not divide a pool of \(pool.count)")
      }
      let entries = (end - start) / gram
      defer { first += entries }
      guard entries > 0, gram >= shortest, gram <= longest else { continue }
      guard first + entries <= indexes.count else {
        throw c.fail("there are \(indexes.count) indexes, fewer than n-grams")
      }
      var found = g.constant(0, .float32, [rows.shape[0], Size(entries)])
      for skip in 0...(gram == 1 ? 0 : skips) {
        let windows = length - (gram - 1) * (skip + 1)
        guard windows > 0 else { continue }
        found = found + matches(c, rows, Array(pool[start..<end]), gram, skip, windows)
      }
      let places = Array(indexes[first..<first + entries])
      if let weights, try c.text("mode", "TF") != "TF" {
        if try c.text("mode", "TF") == "IDF" { found = g.minimum(found, c.scalar(1, .float32)) }
        found = found * c.constant(.float32, [entries], Array(weights[first..<first + entries]))
      }
      let target = g.broadcast(c.constant([entries], places), to: found.shape)
      total = g.scatterAlong(1, total, target, found, .sum)
    }
    if try c.text("mode", "TF") == "IDF", weights == nil {
      total = g.minimum(total, c.scalar(1, .float32))
    }
    return [input.rank == 1 ? g.reshape(total, [Size(size)]) : total]
  }

  /// How often each n-gram of a pool is found, [rows, entries].
  private static func matches(
    _ c: NodeContext, _ rows: Value, _ pool: [Int], _ gram: Int, _ skip: Int, _ windows: Int
  ) -> Value {
    let g = c.g
    let entries = pool.count / gram
    let shape = [rows.shape[0], Size(entries), Size(windows)]
    var isEqual: Value?
    for place in 0..<gram {
      let start = place * (skip + 1)
      let part = g.slice(rows, axis: 1, from: Size(start), to: Size(start + windows))
      let wanted = c.constant([entries], (0..<entries).map { pool[$0 * gram + place] })
      let match =
        g.broadcast(part, to: shape, axes: [0, 2]) .== g.broadcast(wanted, to: shape, axes: [1])
      isEqual = isEqual.map { g.binary(.and, $0, match) } ?? match
    }
    return g.sum(g.convert(isEqual!, .float32), axes: [2])
  }
}
