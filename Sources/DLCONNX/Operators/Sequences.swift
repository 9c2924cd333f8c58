import DLCGraph
import DLCTensor

/// Sequences of tensors, which exist while a graph is built only: how many elements one has, and at which of them an
/// operator looks, must be known then.
enum SequenceOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("SequenceEmpty", since: 11, inputs: 0) { c throws(ImportStop) in give(c, []) },
    OperatorMapping("SequenceConstruct", since: 11, inputs: nil) { c throws(ImportStop) in
      var elements: [Value] = []
      for index in 0..<c.operandCount { elements.append(try c.operand(index)) }
      return give(c, elements)
    },
    OperatorMapping("SplitToSequence", since: 11, inputs: 2, statics: ["split"], split),
    OperatorMapping("ConcatFromSequence", since: 11, inputs: 1, concatenate),
    OperatorMapping("SequenceAt", since: 11, inputs: 2, statics: ["position"]) {
      c throws(ImportStop) in
      let elements = try c.sequence(0)
      return [elements[try position(c, 1, elements.count)]]
    },
    OperatorMapping("SequenceLength", since: 11, inputs: 1) { c throws(ImportStop) in
      [c.constant([], [try c.sequence(0).count])]
    },
    OperatorMapping("SequenceInsert", since: 11, inputs: 3, statics: ["position"]) {
      c throws(ImportStop) in
      var elements = try c.sequence(0)
      let place = c.has(2) ? try position(c, 2, elements.count, isEnd: true) : elements.count
      elements.insert(try c.operand(1), at: place)
      return give(c, elements)
    },
    OperatorMapping("SequenceErase", since: 11, inputs: 2, statics: ["position"]) {
      c throws(ImportStop) in
      var elements = try c.sequence(0)
      elements.remove(at: try position(c, 1, elements.count))
      return give(c, elements)
    },
    OperatorMapping("SequenceMap", since: 17, inputs: nil, map),
  ]

  /// Gives the first output a sequence.
  static func give(_ c: NodeContext, _ elements: [Value]) -> [Value?] {
    if let name = c.node.outputs.first { c.scope.sequences[name] = elements }
    return []
  }

  /// Gives the outputs tensors or sequences.
  static func give(_ c: NodeContext, outputs values: [ImportedValue]) -> [Value?] {
    values.enumerated().map { index, value in
      switch value {
      case .tensor(let tensor): return tensor
      case .sequence(let elements):
        if c.wants(index) { c.scope.sequences[c.node.outputs[index]] = elements }
        return nil
      }
    }
  }

  /// A place counted from the front; the last place is the default.
  /// - Parameter isEnd: whether the place behind the last element is one too.
  private static func position(_ c: NodeContext, _ index: Int, _ count: Int, isEnd: Bool = false)
    throws(ImportStop) -> Int
  {
    let given = c.has(index) ? try c.integer(index) : -1
    let place = given < 0 ? given + count : given
    guard place >= 0, place < count || isEnd && place == count else {
      throw c.fail("position \(given) is out of range for a sequence of \(count)")
    }
    return place
  }

  /// Parts of a tensor along an axis: of one size, of given sizes, or of size 1, whose axis may be dropped.
  private static func split(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    let axis = try c.axis(try c.integer("axis", 0), rank: x.rank)
    let size = try c.number(x.shape[axis])
    var sizes = [Int](repeating: 1, count: size)
    if c.has(1) {
      sizes = try c.integers(1)
      if try c.operand(1).rank == 0 {
        guard let part = sizes.first, part > 0 else { throw c.fail("a part has no elements") }
        sizes = (0..<(size + part - 1) / part).map { min(part, size - $0 * part) }
      }
    }
    guard sizes.allSatisfy({ $0 >= 0 }), sizes.reduce(0, +) == size else {
      throw c.fail("parts of \(sizes) do not add up to axis \(axis) of \(x.type)")
    }
    let keepsAxis = try c.flag("keepdims", true)
    var start = 0
    var parts: [Value] = []
    for part in sizes {
      let piece = c.g.slice(x, axis: axis, from: Size(start), to: Size(start + part))
      var shape = piece.shape
      shape.remove(at: axis)
      parts.append(c.has(1) || keepsAxis ? piece : c.g.reshape(piece, shape))
      start += part
    }
    return give(c, parts)
  }

  private static func concatenate(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    var parts = try c.sequence(0)
    guard let first = parts.first else { throw c.unsupported("a sequence without elements") }
    guard let given = try c.integer("axis") else { throw c.fail("attribute 'axis' is missing") }
    let isStack = try c.flag("new_axis")
    let axis = try c.axis(given, rank: first.rank + (isStack ? 1 : 0))
    if isStack { parts = parts.map { c.unsqueezed($0, [axis]) } }
    return [c.g.concatenate(parts, axis: axis)]
  }

  /// A graph for each element; what is no sequence is the same for all of them.
  private static func map(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let body = try c.graph("body")
    let count = try c.sequence(0).count
    var columns = [[Value]](repeating: [], count: body.outputs.count)
    for number in 0..<count {
      var arguments: [Value] = []
      for index in 0..<c.operandCount {
        guard c.isSequence(index) else {
          arguments.append(try c.operand(index))
          continue
        }
        let elements = try c.sequence(index)
        guard elements.count == count else {
          throw c.fail("its sequences have \(count) and \(elements.count) elements")
        }
        arguments.append(elements[number])
      }
      for (column, value) in try c.importer.results(of: body, arguments, in: c.scope).enumerated() {
        columns[column].append(value)
      }
    }
    for (name, elements) in zip(c.node.outputs, columns) where !name.isEmpty {
      c.scope.sequences[name] = elements
    }
    return []
  }
}
