import DLCGraph
import DLCKernel
import DLCTensor

/// Slices combined into an array at positions that data give, one after the other.
extension RoutineWriter {
  private static var scatteredElements: Int { 4096 }

  mutating func scatter(_ g: IndexGeometry, _ combiner: Combiner?) -> KernelCall {
    let (to, indices, updates) = (sizes(0), sizes(1), sizes(2))
    let element = type(0)
    let out = destination(0)
    let windowAxes = g.axes.windowAxes(to.count)
    // Paired axes, and one axis along which slices are whole, hold independent elements.
    let batch = updates.indices.filter { !g.axes.offsetAxes.contains($0) }
    let order = indices.indices.filter { $0 != g.axes.vectorAxis }
    let paired = zip(batch, order).filter { g.axes.indicesBatchAxes.contains($0.1) }.map(\.0)
    var coordinate = updates.map { _ in IndexExpression(0) }
    let inside = scatterTiles(paired, updates, &coordinate)
    let split = g.splitAxis(to, updates)
    let block = split.map { axis in
      blocks(updates[axis])
    }
    let outer = inside + batch.filter { !paired.contains($0) }
    func window(_ w: inout RoutineWriter, _ rest: ArraySlice<Int>, _ starts: [IndexExpression]) {
      guard let axis = rest.first else {
        let at = g.axes.offsets(coordinate, rank: to.count, indicesRank: indices.count)
        let place = linearize(zip(at, starts).map { $0 + $1 }, to)
        var value = w.e.evaluate(w.node.operands[2], coordinate)
        if let combiner {
          let before = w.load(out, place, element)
          value = w.apply(combiner.operation, element, before, value)
        }
        w.store(out, place, value, element)
        return
      }
      let isVector = rest.count == 1 && axis == updates.count - 1
      w.each(
        updates[axis], isVector ? .vector(unroll: 1) : .serial, block: axis == split ? block : nil
      ) { w, i in
        coordinate[axis] = i
        window(&w, rest.dropFirst(), starts)
      }
    }
    func walk(_ w: inout RoutineWriter, _ rest: ArraySlice<Int>) {
      if let axis = rest.first {
        w.each(updates[axis]) { w, i in
          coordinate[axis] = i
          walk(&w, rest.dropFirst())
        }
        return
      }
      var starts = to.map { _ in IndexExpression(0) }
      var fitting: ScalarID?
      for (component, axis) in g.axes.startAxes.enumerated() {
        let raw = w.e.evaluate(
          w.node.operands[1], g.axes.indexPlace(coordinate, component, indices))
        let wide = w.e.signed(raw, w.type(1), in: w.draft.depth)
        let room = to[axis] - g.sliceSizes[axis]
        let low = w.apply(.compare(.greater_equal), .int64, wide, w.number(0, .int64))
        let high = w.apply(.compare(.less_equal), .int64, wide, w.number(Double(room), .int64))
        var fits = w.apply(.binary(.and), .bool, low, high)
        if let known = fitting { fits = w.apply(.binary(.and), .bool, known, fits) }
        fitting = fits
        starts[axis] = w.bind(wide, extent: room + 1)
      }
      if let fitting {
        w.when(fitting) { window(&$0, g.axes.offsetAxes[...], starts) }
      } else {
        window(&w, g.axes.offsetAxes[...], starts)
      }
    }
    walk(&self, outer[...])
    return finish("scatter", flops: updates.reduce(1, *))
  }

  /// Makes tiles of leading paired axes, until a tile has no more than some thousands of elements.
  /// - Returns: the other paired axes, which are loops inside of a tile.
  private mutating func scatterTiles(
    _ paired: [Int], _ updates: [Int], _ coordinate: inout [IndexExpression]
  ) -> [Int] {
    var share = updates.reduce(1, *)
    var inside: [Int] = []
    for axis in paired {
      if share > Self.scatteredElements {
        coordinate[axis] = tile(updates[axis])
        share /= max(updates[axis], 1)
      } else {
        inside.append(axis)
      }
    }
    return inside
  }
}
