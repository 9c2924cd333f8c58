package import DLCTensor

/// What computing a node takes, from its types alone.
package struct Work: Hashable, Sendable {
  /// Floating-point operations: multiplications and additions of products, one for each element of the rest.
  package var flops = 0
  /// Vector instructions, counted for single elements.
  package var instructions = 0
  /// Bytes of operands and results.
  package var bytes = 0
}

extension Graph {
  /// The work of a node; types are static. Views, constants and positions are none. What a control node
  /// runs counts with its iterations, once where nothing bounds them.
  package func work(of id: NodeID) -> Work {
    let node = self[id]
    guard let result = node.results.first else { return Work() }
    let count = type(result).elementCount
    var work = Work()
    func sizes(_ operand: Int) -> [Int] { type(node.operands[operand]).sizes }
    func product(_ depth: Int) {
      work.flops = 2 * count * depth
      work.instructions = work.flops
    }
    let structure = node.operation.definition.structure(
      node.operands.map { type($0) }, node.results.map { type($0) })
    switch structure {
    case .view, .constant, .iota: return work
    case .map(let operation):
      work.flops = count
      work.instructions = count * InstructionCost.of(operation)
    case .randomBits: work.instructions = count * InstructionCost.randomBits
    case .reduction, .argReduction:
      work.flops = type(node.operands[0]).elementCount
      work.instructions = work.flops * (InstructionCost.access + InstructionCost.combine)
    case .contraction(let g): product(g.lhsContracting.reduce(1) { $0 * sizes(0)[$1] })
    case .convolution(let g):
      product(sizes(1).picked(g.dimensions.kernel).dropFirst().reduce(1, *))
    case .window(let g):
      work.flops = count * g.window.reduce(1, *)
      work.instructions = work.flops * (InstructionCost.access + InstructionCost.combine)
    case .argWindow(let g):
      work.instructions = count * g.window.reduce(1, *) * InstructionCost.gather
    case .gather, .scatter, .dynamicSlice, .dynamicUpdate:
      work.instructions = count * InstructionCost.gather
    case .assembly: work.instructions = count * InstructionCost.access
    case .prefix:
      work.flops = count
      work.instructions = count * InstructionCost.gather
    case .routine(let routine):
      let n = sizes(0).last ?? 1
      switch routine {
      case .sort(let axis, _, _):
        let length = max(sizes(0)[axis], 1)
        let rounds = Int.bitWidth - (length - 1).leadingZeroBitCount
        work.instructions = count * max(rounds, 1) * 24
      case .cholesky, .lu, .triangularSolve:
        work.flops = count * n
        work.instructions = 2 * work.flops
      }
    case .control(let flow): return flow.work
    }
    work.bytes = (node.operands + node.results).reduce(0) { $0 + type($1).byteCount }
    return work
  }

  /// The work of all nodes.
  package var work: Work {
    nodeIDs.reduce(into: Work()) { $0.add(work(of: $1)) }
  }
}

extension Work {
  fileprivate mutating func add(_ other: Work, times count: Int = 1) {
    func sum(_ a: Int, _ b: Int) -> Int {
      let (product, tooLarge) = b.multipliedReportingOverflow(by: count)
      let (sum, overflow) = a.addingReportingOverflow(product)
      return tooLarge || overflow ? .max : sum
    }
    flops = sum(flops, other.flops)
    instructions = sum(instructions, other.instructions)
    bytes = sum(bytes, other.bytes)
  }
}

extension ControlFlow {
  /// Of a branch the dearer way.
  fileprivate var work: Work {
    var total = Work()
    switch self {
    case .call(let arm): return arm.graph.work
    case .branch(_, let then, let otherwise):
      let (a, b) = (then.graph.work, otherwise.graph.work)
      return a.instructions >= b.instructions ? a : b
    case .loop(let loop):
      let count = loop.count?.constant ?? 1
      total.add(loop.body.graph.work, times: count)
      if let condition = loop.condition { total.add(condition.graph.work, times: count) }
    }
    return total
  }
}

extension Operation {
  /// Whether an element of the result costs less than keeping it would: elementwise operations and other
  /// arrangements of what is there.
  package var isCheap: Bool {
    switch self {
    case .unary(let o): InstructionCost.of(.unary(o.function)) <= InstructionCost.keeping
    case .binary(let o): InstructionCost.of(.binary(o.function)) <= InstructionCost.keeping
    case .compare, .select, .clamp, .convert: true
    case .constant, .dimension, .iota, .reshape, .transpose, .broadcast, .slice, .reverse: true
    default: false
    }
  }
}
