import DLCGraph
import DLCTensor

/// What must hold of two integers that a run gives.
indirect enum IndexCheck {
  /// They are the least and the largest index of a node into an axis: indices are from `-size` to `size - 1`. Where
  /// there are none the least is larger.
  case range(title: String, size: Int)
  /// They are the number of a check that failed in a graph in the graph, and an index; the number is -1 where all hold.
  case inner([IndexCheck])

  static func text(_ index: Int64, _ size: Int) -> String {
    "index \(index) is out of range for an axis of \(size)"
  }

  /// - Throws: `.execution` for an index that lies outside.
  func require(_ first: Int64, _ second: Int64) throws(DLCError) {
    switch self {
    case .range(let title, let size):
      guard first <= second else { return }
      for index in [first, second] where index < -Int64(size) || index >= Int64(size) {
        throw DLCError(.execution, Self.text(index, size), at: title)
      }
    case .inner(let checks):
      guard checks.indices.contains(Int(first)) else { return }
      if case .range(let title, let size) = checks[Int(first)] {
        throw DLCError(.execution, Self.text(second, size), at: title)
      }
    }
  }

  /// The ranges that it is about, in the order of their numbers.
  var ranges: [IndexCheck] {
    switch self {
    case .range: [self]
    case .inner(let checks): checks
    }
  }
}

extension GraphImporter {
  /// Has the run check indices of a node.
  func checkIndices(_ indices: Value, _ size: Int, of c: NodeContext) {
    guard keepsChecks, indices.dataType.isInteger else { return }
    let wide = g.convert(indices, .int64)
    let axes = Array(0..<wide.rank)
    let range = [g.reduce(.minimum, wide, axes: axes), g.reduce(.maximum, wide, axes: axes)]
    indexChecks.append(
      (.range(title: c.node.title, size: size), pair(range[0], range[1])))
  }

  // MARK: Graphs in graphs

  /// Whether the run checks graphs in the graph: then they give one more result, `verdict`.
  func checks(_ graphs: ONNXGraph...) -> Bool {
    keepsChecks && graphs.contains { model.mayIndex($0) }
  }

  /// What `body` gives, and what is to be checked of what it added, which is no longer of the graph around.
  func separately<R>(_ body: () throws(ImportStop) -> R) throws(ImportStop) -> (
    result: R, checks: [(check: IndexCheck, found: Value)]
  ) {
    let count = indexChecks.count
    defer { indexChecks.removeSubrange(count...) }
    let result = try body()
    return (result, Array(indexChecks[count...]))
  }

  /// The verdict of a graph whose checks all hold: an int64 vector of two.
  var innocent: Value { g.constant(Tensor(.int64, [2], truncating: [-1, 0])) }

  /// The first check that fails.
  /// - Parameters:
  ///   - before: the verdict so far, which stands where it is one.
  ///   - first: the number of the first check.
  func verdict(
    _ checks: [(check: IndexCheck, found: Value)], before: Value? = nil, first: Int = 0
  ) -> Value {
    var result = before ?? innocent
    var number = first
    for (check, found) in checks {
      let (a, b) = (element(found, 0), element(found, 1))
      let own: Value
      switch check {
      case .range(_, let size):
        let low = a < Double(-size)
        let isBad = low | (b >= Double(size))
        // Where there are no indices neither is outside.
        own = g.select(isBad, pair(integer(number), g.select(low, a, b)), innocent)
      case .inner:
        own = g.select(a >= 0.0, pair(a + Double(number), b), innocent)
      }
      result = g.select(element(result, 0) >= 0.0, result, own)
      number += check.ranges.count
    }
    return result
  }

  /// Has the run check the verdict of a graph in the graph.
  func check(_ verdict: Value, of checks: [IndexCheck]) {
    guard !checks.isEmpty else { return }
    indexChecks.append((.inner(checks.flatMap(\.ranges)), verdict))
  }

  private func integer(_ n: Int) -> Value {
    g.constant(Tensor(.int64, [], truncating: [Int64(n)]))
  }

  private func element(_ pair: Value, _ index: Int) -> Value {
    g.reshape(g.slice(pair, axis: 0, from: Size(index), to: Size(index + 1)), [])
  }

  private func pair(_ a: Value, _ b: Value) -> Value {
    g.concatenate([g.reshape(a, [1]), g.reshape(b, [1])], axis: 0)
  }
}

extension ONNXModel {
  private static let indexing: Set<String> = [
    "Gather", "GatherElements", "GatherND", "Scatter", "ScatterElements", "ScatterND",
  ]

  /// Whether a graph may take elements at indices that a run gives.
  fileprivate func mayIndex(_ graph: ONNXGraph) -> Bool {
    graph.nodes.contains { node in
      let key = FunctionKey(domain: node.domain, name: node.type, overload: node.overload)
      return Self.indexing.contains(node.type) || functions[key] != nil
        || node.graphs.contains(where: mayIndex)
    }
  }
}
