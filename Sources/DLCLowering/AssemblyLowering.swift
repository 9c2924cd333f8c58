import DLCGraph
import DLCKernel
import DLCTensor

/// Lowers pad and concatenate: a map over each piece that stores into its box, after the fill.
enum AssemblyLowering {
  /// A box that is copied: the region that computes it, and where its elements come from and go to.
  struct Box {
    var region: Region
    var source: [Int]
    var place: ([IndexExpression]) -> IndexExpression
  }

  static func boxes(_ region: Region, _ id: NodeID, _ graph: Graph) -> [Box] {
    let node = graph[id]
    guard case .assembly(let pieces, _) = graph.structure(node) else { preconditionFailure() }
    let sizes = graph.sizes(node.results[0])
    return pieces.filter { !$0.counts.contains(0) }.map { piece in
      Box(
        region: Region(
          .rows(domain: piece.counts, axes: []), members: region.members.subtracting([id]),
          outputs: [Region.Destination(value: node.operands[piece.operand], port: nil)]),
        source: piece.sourceStart
      ) { c in
        linearize(c.indices.map { c[$0] * piece.strides[$0] + piece.start[$0] }, sizes)
      }
    }
  }

  static func lower(
    _ region: Region, _ id: NodeID, _ schedule: AssemblySchedule, _ graph: Graph, _ target: Target
  ) -> LoweredRegion {
    let node = graph[id]
    guard case .assembly(_, let fill) = graph.structure(node) else { preconditionFailure() }
    var calls: [KernelCall] = []
    if let fill {
      // A scalar at every place: the domain has coordinates, the value has none.
      let part = Region(
        .rows(domain: graph.sizes(node.results[0]), axes: []),
        members: region.members.subtracting([id]), outputs: [])
      calls.append(
        FillLowering.lower(
          part, node.operands[fill], region.outputs[0], block: schedule.fillBlock, graph, target))
    }
    var parts: [KernelCall] = []
    for (box, rows) in zip(boxes(region, id, graph), schedule.pieces) {
      // The piece's values, stored where the result's own elements go.
      var made = RowLowering.lower(
        box.region, rows, graph, target, offset: box.source, placement: box.place)
      let last = made.bindings.firstIndex {
        if case .destination = $0 { return true }
        return false
      }!
      made.bindings[last] = .destination(region.outputs[0])
      made.kernel.parameters[last].count = max(graph.type(node.results[0]).elementCount, 1)
      made.kernel = Lowering.named(
        made.kernel, "assembly", graph.type(box.region.outputs[0].value).dataType, target)
      made.inPlace = []
      parts.append(made)
    }
    // Boxes do not meet: several of them are parts of one kernel.
    for start in stride(from: 0, to: parts.count, by: schedule.merged) {
      let group = Array(parts[start..<min(start + schedule.merged, parts.count)])
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
    _ region: Region, _ scalar: ValueID, _ destination: Region.Destination, block size: Int,
    _ graph: Graph, _ target: Target
  ) -> KernelCall {
    var e = RegionEvaluator(graph, region)
    let count = max(graph.type(destination.value).elementCount, 1)
    let type = graph.type(destination.value).dataType
    let block = e.tiles(count, size: size)
    let value = e.evaluate(scalar, [])
    let memory = e.parameter(.destination(destination), destination.value)
    e.each(count, .vector(unroll: 4), block: block) { e, i in e.store(memory, i, value, type) }
    return e.call("fill", type, target, flops: 0)
  }
}
