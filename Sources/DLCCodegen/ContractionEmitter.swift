import DLCKernel
import DLCTensor

/// Products on register tiles, and the panels that they read.
extension KernelEmitter {
  /// Where the sums of a part go: a block of the result, or one that a group of parts is summed in.
  private struct PartTarget {
    var pointer: String
    var rowStride: String
    /// Whether they are added to what lies there, as an i1.
    var accumulates: String
  }

  /// Calls of microkernels over the tiles of a block: parts of the depth, panels, then rows.
  mutating func emit(_ c: ContractStatement) {
    guard c.rows.total > 0, c.columns.total > 0 else { return }
    let a = address(c.a, index(c.aBase), c.types.a)
    let b = address(c.b, index(c.bBase), c.types.b)
    let target = PartTarget(
      pointer: address(c.c, index(c.cBase), c.types.c), rowStride: "\(c.cRowStride)",
      accumulates: c.accumulates ? "true" : "false")
    perExtent(c.columns) { e, columns in
      e.perExtent(c.rows) { e, rows in
        if c.depth <= c.depthBlock {
          e.emitPart(c, a, b, target, columns: columns, rows: rows, k: "0", depth: "\(c.depth)")
        } else {
          e.emitParts(
            c, a, b, target, columns: columns, rows: rows, from: "0", to: "\(c.depth)",
            level: SumOrder.levels(c.depth, chain: c.depthBlock))
        }
      }
    }
  }

  /// The parts of a stretch of the depth: the first writes to the target, the others add to it; above
  /// the first level the others are groups, each summed in a block of its own first.
  private mutating func emitParts(
    _ c: ContractStatement, _ a: String, _ b: String, _ target: PartTarget, columns: Int, rows: Int,
    from begin: String, to end: String, level: Int
  ) {
    let size = (0..<level).reduce(c.depthBlock) { size, _ in size * SumOrder.group }
    _ = counted(from: begin, to: end, step: size) { e, k, _ in
      let isFirst = e.text.make("i1", 0, "icmp eq i64 \(k), \(begin)").name
      let next = e.text.make("i64", 0, "add nsw i64 \(k), \(size)").name
      let isLess = e.text.make("i1", 0, "icmp slt i64 \(next), \(end)").name
      let last = e.text.make("i64", 0, "select i1 \(isLess), i64 \(next), i64 \(end)").name
      var mine = target
      if level == 0 {
        mine.accumulates =
          e.text.make("i1", 0, "select i1 \(isFirst), i1 \(target.accumulates), i1 true").name
        let depth = e.text.make("i64", 0, "sub nsw i64 \(last), \(k)").name
        e.emitPart(c, a, b, mine, columns: columns, rows: rows, k: k, depth: depth)
        return []
      }
      let partial = e.pointers[c.partials[level - 1]]!
      mine.pointer =
        e.text.make("ptr", 0, "select i1 \(isFirst), ptr \(target.pointer), ptr \(partial)").name
      mine.rowStride =
        e.text.make(
          "i64", 0, "select i1 \(isFirst), i64 \(target.rowStride), i64 \(c.partialRowStride)"
        ).name
      mine.accumulates =
        e.text.make("i1", 0, "select i1 \(isFirst), i1 \(target.accumulates), i1 false").name
      e.emitParts(
        c, a, b, mine, columns: columns, rows: rows, from: k, to: last, level: level - 1)
      let (add, done) = (e.text.label("add"), e.text.label("added"))
      e.text.emit("br i1 \(isFirst), label %\(done), label %\(add)")
      e.text.startBlock(add)
      e.addBlock(c, partial, to: target, columns: columns, rows: rows)
      e.text.emit("br label %\(done)")
      e.text.startBlock(done)
      return []
    }
  }

  /// Adds the sums of a group to where they belong.
  private mutating func addBlock(
    _ c: ContractStatement, _ partial: String, to target: PartTarget, columns: Int, rows: Int
  ) {
    let element = c.types.c.llvmType
    _ = counted(from: "0", to: "\(rows)") { e, row, _ in
      let from = e.text.make("i64", 0, "mul nsw i64 \(row), \(c.partialRowStride)").name
      let to = e.text.make("i64", 0, "mul nsw i64 \(row), \(target.rowStride)").name
      let lanes = e.text.target.vectorBytes / c.types.c.byteCount
      let whole = columns / lanes * lanes
      for (begin, end, width) in [(0, whole, lanes), (whole, columns, 0)] where begin < end {
        _ = e.counted(from: "\(begin)", to: "\(end)", step: max(width, 1)) { e, column, _ in
          func place(_ base: String, _ row: String) -> String {
            let at = e.text.make("i64", 0, "add nsw i64 \(row), \(column)").name
            return e.text.make(
              "ptr", 0, "getelementptr inbounds \(element), ptr \(base), i64 \(at)"
            )
            .name
          }
          let (x, y) = (place(target.pointer, to), place(partial, from))
          let type = Operand(name: "", type: element, lanes: width).fullType
          let before = e.text.make(
            element, width, "load \(type), ptr \(x), align \(c.types.c.byteCount)")
          let part = e.text.make(
            element, width, "load \(type), ptr \(y), align \(c.types.c.byteCount)")
          let sum = e.text.make(
            element, width, "\(c.types.c.isFloat ? "fadd" : "add") \(before.text), \(part.name)")
          e.text.emit("store \(sum.text), ptr \(x), align \(c.types.c.byteCount)")
          return []
        }
      }
      return []
    }
  }

  private mutating func emitPart(
    _ c: ContractStatement, _ a: String, _ b: String, _ target: PartTarget, columns: Int, rows: Int,
    k: String, depth: String
  ) {
    let whole = columns / c.panelWidth
    if whole > 0 {
      _ = counted(from: "0", to: "\(whole)") { e, p, _ in
        e.emitPanel(
          c, a, b, target, panel: p, columns: c.panelWidth, rows: rows, k: k, depth: depth)
        return []
      }
    }
    if columns % c.panelWidth != 0 {
      let width = c.cIsPadded ? c.panelWidth : columns % c.panelWidth
      emitPanel(
        c, a, b, target, panel: "\(whole)", columns: width, rows: rows, k: k, depth: depth)
    }
  }

  /// Runs `body` with the extent of the present block: the last block may be smaller.
  private mutating func perExtent(_ extent: BlockExtent, _ body: (inout KernelEmitter, Int) -> Void)
  {
    guard let block = extent.index, extent.blockCount > 1, extent.total % extent.size != 0 else {
      body(&self, extent.index == nil ? extent.total : min(extent.size, extent.total))
      return
    }
    let (last, full, done) = (text.label("last"), text.label("full"), text.label("joined"))
    let isLast = text.make("i1", 0, "icmp eq i64 \(variables[block]!), \(extent.blockCount - 1)")
      .name
    text.emit("br i1 \(isLast), label %\(last), label %\(full)")
    text.startBlock(last)
    body(&self, extent.lastSize)
    text.emit("br label %\(done)")
    text.startBlock(full)
    body(&self, extent.size)
    text.emit("br label %\(done)")
    text.startBlock(done)
  }

  private mutating func emitPanel(
    _ c: ContractStatement, _ a: String, _ b: String, _ target: PartTarget, panel: String,
    columns: Int, rows: Int, k: String, depth: String
  ) {
    let (aElement, bElement, cElement) = (
      c.types.a.llvmStorage, c.types.b.llvmStorage, c.types.c.llvmStorage
    )
    let bOffset = text.make("i64", 0, "mul nsw i64 \(panel), \(c.bPanelStride)").name
    let bDepth = text.make("i64", 0, "mul nsw i64 \(k), \(c.bDepthStride)").name
    let bStart = text.make("i64", 0, "add nsw i64 \(bOffset), \(bDepth)").name
    let bPointer = text.make(
      "ptr", 0, "getelementptr inbounds \(bElement), ptr \(b), i64 \(bStart)"
    )
    .name
    let aDepth = text.make("i64", 0, "mul nsw i64 \(k), \(c.aDepthStride)").name
    let accumulates = text.make("i64", 0, "zext i1 \(target.accumulates) to i64").name
    let cOffset = text.make("i64", 0, "mul nsw i64 \(panel), \(c.panelWidth)").name
    let laneCount = text.target.vectorBytes / c.types.c.byteCount
    var row = 0
    for (height, count) in Microkernel.rowPlan(rows, tile: c.tileRows) {
      let kernel = Microkernel(
        types: c.types, rows: height,
        vectors: (columns + laneCount - 1) / laneCount,
        isMasked: columns % laneCount != 0, hasUnitDepth: c.aDepthStride == 1)
      microkernels.insert(kernel)
      let symbol = kernel.name(text.target)
      text.declare(kernel.declaration(text.target))
      _ = counted(from: "0", to: "\(count)") { e, tile, _ in
        let scaled = e.text.make("i64", 0, "mul nsw i64 \(tile), \(height)").name
        let first = e.text.make("i64", 0, "add nsw i64 \(scaled), \(row)").name
        let aRow = e.text.make("i64", 0, "mul nsw i64 \(first), \(c.aRowStride)").name
        let aStart = e.text.make("i64", 0, "add nsw i64 \(aRow), \(aDepth)").name
        let aPointer = e.text.make(
          "ptr", 0, "getelementptr inbounds \(aElement), ptr \(a), i64 \(aStart)"
        ).name
        let cRow = e.text.make("i64", 0, "mul nsw i64 \(first), \(target.rowStride)").name
        let cStart = e.text.make("i64", 0, "add nsw i64 \(cRow), \(cOffset)").name
        let cPointer = e.text.make(
          "ptr", 0, "getelementptr inbounds \(cElement), ptr \(target.pointer), i64 \(cStart)"
        ).name
        e.text.emit(
          "call void @\(symbol)(ptr \(aPointer), i64 \(c.aRowStride), i64 \(c.aDepthStride), ptr \(bPointer), i64 \(c.bDepthStride), ptr \(cPointer), i64 \(target.rowStride), i64 \(depth), i64 \(accumulates), i64 \(columns))"
        )
        return []
      }
      row += height * count
    }
  }

  /// Panels of an implicit convolution matrix. A panel whose positions are neighbours in memory is
  /// copied by vectors, any other lane by lane.
  mutating func emit(_ p: PackStatement) {
    let element = p.type.llvmType
    let base = address(p.source, index(p.base), p.type)
    let (begin, end) = bounds(p.columns)
    let depth = p.taps.reduce(1) { $0 * $1.extent }
    let width = p.panelWidth
    let destination = pointers[p.destination]!
    func position(_ e: inout KernelEmitter, _ column: String) -> String {
      let variable = LoopVariable(id: -1, extent: max(p.columns.total, 2))
      let coordinate = delinearize(IndexExpression(variable), p.positions.map(\.extent))
      let offset = zip(coordinate, p.positions).reduce(IndexExpression(0)) {
        $0 + $1.0 * $1.1.stride
      }
      return e.index(offset, [variable: column])
    }
    _ = counted(from: begin, to: end, step: width) { e, column, _ in
      let offsets: [String] = (0..<width).map { lane in
        let at = e.text.make("i64", 0, "add nsw i64 \(column), \(lane)").name
        let inside = e.text.make("i1", 0, "icmp slt i64 \(at), \(p.columns.total)").name
        let safe = e.text.make(
          "i64", 0, "select i1 \(inside), i64 \(at), i64 \(p.columns.total - 1)"
        ).name
        return position(&e, safe)
      }
      let local = e.text.make("i64", 0, "sub nsw i64 \(column), \(begin)").name
      let panelStart = e.text.make("i64", 0, "mul nsw i64 \(local), \(depth)").name
      let span = e.text.make("i64", 0, "sub nsw i64 \(offsets[width - 1]), \(offsets[0])").name
      // Columns beyond the last repeat it, so that only a whole panel can be a run.
      let isDense = e.text.make("i1", 0, "icmp eq i64 \(span), \(width - 1)").name
      let last = e.text.make("i64", 0, "add nsw i64 \(column), \(width - 1)").name
      let isWhole = e.text.make("i1", 0, "icmp slt i64 \(last), \(p.columns.total)").name
      let isRun = e.text.make("i1", 0, "and i1 \(isDense), \(isWhole)").name
      let (run, scattered, done) = (
        e.text.label("run"), e.text.label("scattered"), e.text.label("packed")
      )
      e.text.emit("br i1 \(isRun), label %\(run), label %\(scattered)")
      for isVector in [true, false] {
        e.text.startBlock(isVector ? run : scattered)
        e.overTaps(p.taps[...], row: "0", offset: "0") { e, row, offset in
          let scaled = e.text.make("i64", 0, "mul nsw i64 \(row), \(width)").name
          let to = e.text.make("i64", 0, "add nsw i64 \(panelStart), \(scaled)").name
          let toPointer = e.text.make(
            "ptr", 0, "getelementptr inbounds \(element), ptr \(destination), i64 \(to)"
          ).name
          func source(_ lane: Int) -> String {
            let at = e.text.make("i64", 0, "add nsw i64 \(offset), \(offsets[lane])").name
            return e.text.make(
              "ptr", 0, "getelementptr inbounds \(element), ptr \(base), i64 \(at)"
            ).name
          }
          if isVector {
            let value = e.text.make(
              element, width,
              "load <\(width) x \(element)>, ptr \(source(0)), align \(p.type.byteCount)")
            e.text.emit("store \(value.text), ptr \(toPointer), align \(p.type.byteCount)")
          } else {
            for lane in 0..<width {
              let value = e.text.make(
                element, 0, "load \(element), ptr \(source(lane)), align \(p.type.byteCount)")
              let place = e.text.make(
                "ptr", 0, "getelementptr inbounds \(element), ptr \(toPointer), i64 \(lane)"
              ).name
              e.text.emit("store \(value.text), ptr \(place), align \(p.type.byteCount)")
            }
          }
        }
        e.text.emit("br label %\(done)")
      }
      e.text.startBlock(done)
      return []
    }
  }

  /// Nested loops over the taps; the body gets the tap's number and its offset in the source.
  private mutating func overTaps(
    _ taps: ArraySlice<PackStatement.Axis>, row: String, offset: String,
    _ body: (inout KernelEmitter, String, String) -> Void
  ) {
    guard let axis = taps.first else {
      body(&self, row, offset)
      return
    }
    _ = counted(from: "0", to: "\(axis.extent)") { e, i, _ in
      let scaled = e.text.make("i64", 0, "mul nsw i64 \(row), \(axis.extent)").name
      let nextRow = e.text.make("i64", 0, "add nsw i64 \(scaled), \(i)").name
      let step = e.text.make("i64", 0, "mul nsw i64 \(i), \(axis.stride)").name
      let nextOffset = e.text.make("i64", 0, "add nsw i64 \(offset), \(step)").name
      e.overTaps(taps.dropFirst(), row: nextRow, offset: nextOffset, body)
      return []
    }
  }
}
