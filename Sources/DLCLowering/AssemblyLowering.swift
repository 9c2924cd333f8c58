import DLCGraph
import DLCKernel
import DLCTensor

/// Lowers pad and concatenate: a map over each piece that stores into its box, after the fill.
enum AssemblyLowering {
  static func lower(_ region: Region, _ id: NodeID, _ graph: Graph, _ target: Target)
    -> LoweredRegion
  {
    let node = graph[id]
    guard case .assembly(let pieces, let fill) = graph.structure(node) else {
      preconditionFailure()
    }
    let sizes = graph.sizes(node.results[0])
    var calls: [KernelCall] = []
    var parts: [KernelCall] = []
    func call(
      _ source: ValueID, _ domain: [Int], offset: [Int],
      _ place: @escaping ([IndexExpression]) -> IndexExpression
    ) {
      // The piece's values, stored where the result's own elements go.
      let part = Region(
        .rows(domain: domain, axes: []), members: region.members.subtracting([id]),
        outputs: [Region.Destination(value: source, port: nil)])
      var made = RowLowering.lower(part, graph, target, offset: offset, placement: place)
      let last = made.bindings.firstIndex {
        if case .destination = $0 { return true }
        return false
      }!
      made.bindings[last] = .destination(region.outputs[0])
      made.kernel.parameters[last].count = max(graph.type(node.results[0]).elementCount, 1)
      made.kernel = Lowering.named(made.kernel, "assembly", graph.type(source).dataType, target)
      made.inPlace = []
      parts.append(made)
    }
    if let fill {
      // A scalar at every place: the domain has coordinates, the value has none.
      let value = node.operands[fill]
      let part = Region(
        .rows(domain: sizes, axes: []), members: region.members.subtracting([id]), outputs: [])
      calls.append(FillLowering.lower(part, value, region.outputs[0], graph, target))
    }
    for piece in pieces where !piece.counts.contains(0) {
      call(node.operands[piece.operand], piece.counts, offset: piece.sourceStart) { c in
        linearize(c.indices.map { c[$0] * piece.strides[$0] + piece.start[$0] }, sizes)
      }
    }
    // Boxes do not meet: several of them are parts of one kernel.
    for start in stride(from: 0, to: parts.count, by: Lowering.mergeLimit) {
      let group = Array(parts[start..<min(start + Lowering.mergeLimit, parts.count)])
      if group.count == 1 || !group.allSatisfy(\.kernel.locals.isEmpty) {
        calls += group
        continue
      }
      let (kernel, bindings) = Lowering.merged(
        group.map { ($0.kernel, $0.bindings) }, "assembly", target)
      calls.append(KernelCall(kernel: kernel, bindings: bindings, inPlace: []))
    }
    return LoweredRegion(calls: calls, temporaries: [])
  }
}

/// Writes one scalar to every element of a destination.
enum FillLowering {
  static func lower(
    _ region: Region, _ scalar: ValueID, _ destination: Region.Destination, _ graph: Graph,
    _ target: Target
  ) -> KernelCall {
    var e = RegionEvaluator(graph, region)
    let count = max(graph.type(destination.value).elementCount, 1)
    let size = 1 << 16
    let (block, element) = (e.variable((count + size - 1) / size), e.variable(count))
    e.scopes = [RegionEvaluator.Scope(variables: [block])]
    let value = e.evaluate(scalar, [])
    let memory = e.parameter(.destination(destination), destination.value)
    let type = graph.type(destination.value).dataType
    let loop = Loop(
      element, BlockExtent(total: count, size: size, index: block), mode: .vector(unroll: 4),
      body: [.store(memory, IndexExpression(element), value, type)])
    let kernel = Kernel(
      name: "", parameters: e.parameters, locals: [], grid: [block],
      body: e.scopes[0].statements + [.loop(loop)],
      flops: 0, bytesMoved: Lowering.bytes(e.parameters))
    return KernelCall(
      kernel: Lowering.named(kernel, "fill", type, target), bindings: Lowering.bindings(e),
      inPlace: [])
  }
}
