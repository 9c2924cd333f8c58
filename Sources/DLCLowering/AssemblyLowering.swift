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
    guard case .assembly(let pieces, let fill) = graph.structure(node) else {
      preconditionFailure()
    }
    var calls: [KernelCall] = []
    if let fill {
      // A scalar at every place: the domain has coordinates, the value has none.
      let part = Region(
        .rows(domain: graph.sizes(node.results[0]), axes: []),
        members: region.members.subtracting([id]), outputs: [])
      let call = FillLowering.lower(
        part, node.operands[fill], region.outputs[0], around: pieces, block: schedule.fillBlock,
        graph, target)
      if let call { calls.append(call) }
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

/// Writes one scalar to every element of a destination that its pieces leave free: to those around a piece that is one
/// box, or to all where the pieces come later and that is no slower.
enum FillLowering {
  static func lower(
    _ region: Region, _ scalar: ValueID, _ destination: Region.Destination,
    around pieces: [AssemblyPiece], block size: Int, _ graph: Graph, _ target: Target
  ) -> KernelCall? {
    let sizes = graph.sizes(destination.value)
    let isBox =
      pieces.count == 1 && pieces[0].strides.allSatisfy { $0 == 1 } && !pieces[0].counts.contains(0)
    let slabs = isBox ? slabs(around: pieces[0], sizes) : []
    let lanes = target.vectorBytes / graph.type(destination.value).dataType.byteCount
    if !isBox || slabs.reduce(0, { $0 + stores($1, sizes, lanes) }) > sizes.reduce(1, *) / lanes {
      return fill(
        Slab(start: sizes.map { _ in 0 }, counts: sizes), region, scalar, destination,
        block: size, graph, target)
    }
    return beside(slabs, region, scalar, destination, block: size, graph, target)
  }

  /// What a slab takes, in stores of whole vectors: a part of one is as long as two, and so is the way to the next line.
  private static func stores(_ slab: Slab, _ sizes: [Int], _ lanes: Int) -> Int {
    let whole = wholeAxes(slab, sizes)
    let split = max(0, sizes.count - whole - 1)
    let line = slab.counts[split...].reduce(1, *)
    return slab.counts[..<split].reduce(1, *) * (line / lanes + (line % lanes == 0 ? 0 : 2) + 2)
  }

  /// How many axes at the end are filled whole.
  private static func wholeAxes(_ slab: Slab, _ sizes: [Int]) -> Int {
    sizes.indices.reversed().prefix { slab.start[$0] == 0 && slab.counts[$0] == sizes[$0] }.count
  }

  private static func beside(
    _ slabs: [Slab], _ region: Region, _ scalar: ValueID, _ destination: Region.Destination,
    block size: Int, _ graph: Graph, _ target: Target
  ) -> KernelCall? {
    let parts = slabs.map {
      fill($0, region, scalar, destination, block: size, graph, target)
    }
    if parts.count < 2 { return parts.first }
    let (kernel, bindings) = Lowering.merged(
      parts.map { ($0.kernel, $0.bindings) }, "fill", target)
    return KernelCall(kernel: kernel, bindings: bindings, inPlace: [])
  }

  /// What a frame has beside what it is around.
  static func lower(
    _ frame: Region.Frame, of region: Region, _ graph: Graph, _ target: Target
  ) -> KernelCall? {
    guard case .assembly(let pieces, _) = graph.structure(graph[frame.node]) else {
      preconditionFailure("a frame is a pad")
    }
    let destination = region.outputs[0]
    let part = Region(
      .rows(domain: graph.sizes(destination.value), axes: []),
      members: region.members.subtracting([frame.node]), outputs: [])
    return beside(
      slabs(around: pieces[0], graph.sizes(destination.value)), part, frame.fill, destination,
      block: AssemblySchedule.usualFillBlock, graph, target)
  }

  private struct Slab {
    var start: [Int]
    var counts: [Int]
  }

  /// Before and behind the box along each axis, within it along the axes before.
  private static func slabs(around piece: AssemblyPiece, _ sizes: [Int]) -> [Slab] {
    var result: [Slab] = []
    for axis in sizes.indices {
      let end = piece.start[axis] + piece.counts[axis]
      for range in [0..<piece.start[axis], end..<sizes[axis]] where !range.isEmpty {
        var slab = Slab(start: sizes.map { _ in 0 }, counts: sizes)
        for inside in 0..<axis {
          (slab.start[inside], slab.counts[inside]) = (piece.start[inside], piece.counts[inside])
        }
        (slab.start[axis], slab.counts[axis]) = (range.lowerBound, range.count)
        result.append(slab)
      }
    }
    return result
  }

  private static func fill(
    _ slab: Slab, _ region: Region, _ scalar: ValueID, _ destination: Region.Destination,
    block size: Int, _ graph: Graph, _ target: Target
  ) -> KernelCall {
    var e = RegionEvaluator(graph, region)
    let sizes = graph.sizes(destination.value)
    let type = graph.type(destination.value).dataType
    // An axis and all behind it that are filled whole are one line.
    let split = max(0, sizes.count - wholeAxes(slab, sizes) - 1)
    let (outer, inner) = (Array(slab.counts[..<split]), slab.counts[split...].reduce(1, *))
    let lines = max(outer.reduce(1, *), 1)
    // A line is not shorter than a few stores.
    let lineBlock = e.tiles(lines, size: max(1, size / max(inner, 16)))
    let pieceBlock = e.tiles(max(inner, 1), size: size)
    let value = e.evaluate(scalar, [])
    let memory = e.parameter(.destination(destination), destination.value)
    let strides = rowMajorStrides(sizes)
    e.each(lines, block: lineBlock) { e, line in
      let at = zip(delinearize(line, outer), slab.start).map { $0 + $1 }
      let start = zip(at, strides).reduce(IndexExpression(0)) { $0 + $1.0 * $1.1 }
      let first = sizes.isEmpty ? 0 : slab.start[split] * strides[split]
      e.each(max(inner, 1), .vector(unroll: 4), block: pieceBlock) { e, i in
        e.store(memory, start + first + i, value, type)
      }
    }
    var call = e.call("fill", type, target, flops: 0)
    call.kernel.bytesMoved = slab.counts.reduce(1, *) * type.byteCount
    return call
  }
}
