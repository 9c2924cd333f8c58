import DLCGraph
import DLCTensor

/// Loops that carry sequences, which exist while a graph is built only: their iterations are written out one after the
/// other, so that how many there are must be known then.
enum SequenceLoops {
  /// So many iterations are written out.
  private static let limit = 1024

  /// Whether a loop carries a sequence.
  static func isOne(_ c: NodeContext) -> Bool {
    c.node.inputs.indices.dropFirst(2).contains { c.isSequence($0) }
  }

  static func loop(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let body = try c.graph("body")
    var carried: [ImportedValue] = []
    for index in c.node.inputs.indices.dropFirst(2) {
      carried.append(
        c.isSequence(index) ? .sequence(try c.sequence(index)) : .tensor(try c.operand(index)))
    }
    try ControlOperators.require(body, carries: carried.count, c)
    let trips = try c.has(0) ? c.wideIntegers(0).first ?? 0 : Int.max
    var condition = c.optional(1) ?? ControlOperators.always(c.g)
    var stacks = [[Value]](repeating: [], count: body.outputs.count - carried.count - 1)
    var number = 0
    while number < trips, try isTrue(c, condition, body) {
      guard number < limit else {
        throw c.unsupported("more than \(limit) iterations that carry a sequence")
      }
      let iteration = c.constant([], [number])
      let results = try c.importer.values(
        of: body, [.tensor(iteration), .tensor(condition)] + carried, in: c.scope)
      condition = try tensor(c, results[0])
      carried = Array(results[1..<1 + carried.count])
      for (index, result) in results[(1 + carried.count)...].enumerated() {
        stacks[index].append(try tensor(c, result))
      }
      number += 1
    }
    return try outputs(c, carried, stacks)
  }

  /// Whether a condition holds, which must be known.
  private static func isTrue(_ c: NodeContext, _ condition: Value, _ body: ONNXGraph)
    throws(ImportStop) -> Bool
  {
    guard case .array(let known)? = c.known(condition), known.count == 1 else {
      throw .needs(condition, operand: body.outputs[0].name, of: c.node.title)
    }
    return known.integers[0] != 0
  }

  private static func tensor(_ c: NodeContext, _ value: ImportedValue) throws(ImportStop) -> Value {
    guard case .tensor(let tensor) = value else {
      throw c.fail("the body gives a sequence for what is no carried one")
    }
    return tensor
  }

  private static func outputs(_ c: NodeContext, _ carried: [ImportedValue], _ stacks: [[Value]])
    throws(ImportStop) -> [Value?]
  {
    var outputs = SequenceOperators.give(c, outputs: carried)
    for (index, stack) in stacks.enumerated() where c.wants(carried.count + index) {
      guard !stack.isEmpty else { throw c.unsupported("stacked results of no iteration") }
      outputs.append(c.g.concatenate(stack.map { c.unsqueezed($0, [0]) }, axis: 0))
    }
    return outputs
  }
}
