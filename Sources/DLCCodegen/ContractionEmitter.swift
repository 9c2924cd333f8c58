import DLCKernel
import DLCTensor

/// Products on register tiles, and the panels that they read.
extension KernelEmitter {
  /// Where the sums of a part go: a block of the result, or one that a group of parts is summed in.
  private struct PartTarget {
    var pointer: Operand
    var rowStride: Operand
    /// Whether they are added to what lies there, as an i1.
    var accumulates: Operand
  }

  /// A block of a product in which a stretch of the depth is summed.
  private struct Part {
    let statement: ContractStatement
    var a: Operand
    var b: Operand
    var target: PartTarget
    var rows: Int
    var columns: Int
  }

  /// Calls of microkernels over the tiles of a block: parts of the depth, panels, then rows.
  mutating func emit(_ c: ContractStatement) {
    guard c.rows.total > 0, c.columns.total > 0 else { return }
    let a = address(c.a, index(c.aBase), c.types.a)
    let b = address(c.b, index(c.bBase), c.types.b)
    let target = PartTarget(
      pointer: address(c.c, index(c.cBase), c.types.c), rowStride: .index(c.cRowStride),
      accumulates: .bool(c.accumulates))
    perExtent(c.columns) { e, columns in
      e.perExtent(c.rows) { e, rows in
        let part = Part(statement: c, a: a, b: b, target: target, rows: rows, columns: columns)
        if c.depth <= c.depthBlock {
          e.emit(part, k: .index(0), depth: .index(c.depth))
        } else {
          e.emitParts(
            part, from: .index(0), to: .index(c.depth),
            level: SumOrder.levels(c.depth, chain: c.depthBlock))
        }
      }
    }
  }

  /// The parts of a stretch of the depth: the first writes to the target, the others add to it; above
  /// the first level the others are groups, each summed in a block of its own first.
  private mutating func emitParts(
    _ part: Part, from begin: Operand, to end: Operand, level: Int
  ) {
    let (c, target) = (part.statement, part.target)
    let size = (0..<level).reduce(c.depthBlock) { size, _ in size * SumOrder.group }
    _ = counted(from: begin, to: end, step: size) { e, k, _ in
      let text = e.text
      let isFirst = text.compare(.eq, k, begin)
      let last = text.smaller(text.add(k, size), end)
      var mine = part
      if level == 0 {
        mine.target.accumulates = text.select(isFirst, target.accumulates, .bool(true))
        e.emit(mine, k: k, depth: text.subtract(last, k))
        return []
      }
      let partial = e.pointers[c.partials[level - 1]]!
      mine.target.pointer = text.select(isFirst, target.pointer, partial)
      mine.target.rowStride = text.select(isFirst, target.rowStride, .index(c.partialRowStride))
      mine.target.accumulates = text.select(isFirst, target.accumulates, .bool(false))
      e.emitParts(mine, from: k, to: last, level: level - 1)
      let (add, done) = (text.label("add"), text.label("added"))
      text.branch(if: isFirst, done, else: add)
      text.start(add)
      e.addBlock(partial, to: part)
      text.branch(to: done)
      text.start(done)
      return []
    }
  }

  /// Adds the sums of a group to where they belong.
  private mutating func addBlock(_ partial: Operand, to part: Part) {
    let (type, columns) = (part.statement.types.c, part.columns)
    let element = type.llvmType
    _ = counted(from: .index(0), to: .index(part.rows)) { e, row, _ in
      let text = e.text
      let from = text.multiply(row, part.statement.partialRowStride)
      let to = text.multiply(row, part.target.rowStride)
      let lanes = text.target.vectorBytes / type.byteCount
      let whole = columns / lanes * lanes
      for (begin, end, width) in [(0, whole, lanes), (whole, columns, 0)] where begin < end {
        _ = e.counted(from: .index(begin), to: .index(end), step: max(width, 1)) { _, column, _ in
          let x = text.offset(part.target.pointer, text.add(to, column), of: element)
          let y = text.offset(partial, text.add(from, column), of: element)
          let before = text.load(element, width, from: x, align: type.byteCount)
          let sum = text.sum(before, text.load(element, width, from: y, align: type.byteCount))
          text.store(sum, to: x, align: type.byteCount)
          return []
        }
      }
      return []
    }
  }

  private mutating func emit(_ part: Part, k: Operand, depth: Operand) {
    let c = part.statement
    let whole = part.columns / c.panelWidth
    if whole > 0 {
      _ = counted(from: .index(0), to: .index(whole)) { e, p, _ in
        e.emitPanel(part, p, columns: c.panelWidth, k: k, depth: depth)
        return []
      }
    }
    if part.columns % c.panelWidth != 0 {
      let width = c.cIsPadded ? c.panelWidth : part.columns % c.panelWidth
      emitPanel(part, .index(whole), columns: width, k: k, depth: depth)
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
    let isLast = text.compare(.eq, variables[block]!, extent.blockCount - 1)
    text.branch(if: isLast, last, else: full)
    text.start(last)
    body(&self, extent.lastSize)
    text.branch(to: done)
    text.start(full)
    body(&self, extent.size)
    text.branch(to: done)
    text.start(done)
  }

  private mutating func emitPanel(
    _ part: Part, _ panel: Operand, columns: Int, k: Operand, depth: Operand
  ) {
    let (c, target) = (part.statement, part.target)
    let bStart = text.add(text.multiply(panel, c.bPanelStride), text.multiply(k, c.bDepthStride))
    let bPointer = text.offset(part.b, bStart, of: c.types.b.llvmStorage)
    let aDepth = text.multiply(k, c.aDepthStride)
    let accumulates = text.cast(.zext, target.accumulates, to: .i64)
    let cOffset = text.multiply(panel, c.panelWidth)
    let laneCount = text.target.vectorBytes / c.types.c.byteCount
    var row = 0
    for (height, count) in Microkernel.rowPlan(part.rows, tile: c.tileRows) {
      let kernel = Microkernel(
        types: c.types, rows: height,
        vectors: (columns + laneCount - 1) / laneCount,
        isMasked: columns % laneCount != 0, hasUnitDepth: c.aDepthStride == 1)
      microkernels.insert(kernel)
      kernel.declare(in: text)
      _ = counted(from: .index(0), to: .index(count)) { e, tile, _ in
        let text = e.text
        let first = text.add(text.multiply(tile, height), row)
        let aStart = text.add(text.multiply(first, c.aRowStride), aDepth)
        let aPointer = text.offset(part.a, aStart, of: c.types.a.llvmStorage)
        let cStart = text.add(text.multiply(first, target.rowStride), cOffset)
        let cPointer = text.offset(target.pointer, cStart, of: c.types.c.llvmStorage)
        text.call(
          kernel.name(text.target),
          [
            aPointer, .index(c.aRowStride), .index(c.aDepthStride), bPointer,
            .index(c.bDepthStride), cPointer, target.rowStride, depth, accumulates,
            .index(columns),
          ])
        return []
      }
      row += height * count
    }
  }

  /// Panels of an implicit convolution matrix. A panel whose positions are neighbours in memory is
  /// copied by vectors, any other lane by lane.
  mutating func emit(_ p: PackStatement) {
    let base = address(p.source, index(p.base), p.type)
    let (begin, end) = bounds(p.columns)
    let depth = p.taps.reduce(1) { $0 * $1.extent }
    let width = p.panelWidth
    let destination = pointers[p.destination]!
    _ = counted(from: begin, to: end, step: width) { e, column, _ in
      let text = e.text
      let offsets = e.positions(p, from: column)
      let panelStart = text.multiply(text.subtract(column, begin), depth)
      let span = text.subtract(offsets[width - 1], offsets[0])
      // Columns beyond the last repeat it, so that only a whole panel can be a run.
      let isDense = text.compare(.eq, span, width - 1)
      let isWhole = text.compare(.slt, text.add(column, width - 1), p.columns.total)
      let isRun = text.integer(.and, isDense, isWhole)
      let (run, scattered, done) = (
        text.label("run"), text.label("scattered"), text.label("packed")
      )
      text.branch(if: isRun, run, else: scattered)
      for isVector in [true, false] {
        text.start(isVector ? run : scattered)
        e.overTaps(p.taps[...], row: .index(0), offset: .index(0)) { e, row, offset in
          let to = text.offset(
            destination, text.add(panelStart, text.multiply(row, width)), of: p.type.llvmType)
          e.copyTap(p, from: base, offset, offsets, to: to, isVector: isVector)
        }
        text.branch(to: done)
      }
      text.start(done)
      return []
    }
  }

  /// Where the positions of a panel lie in the source; those beyond the last column repeat it.
  private mutating func positions(_ p: PackStatement, from column: Operand) -> [Operand] {
    let variable = LoopVariable(id: -1, extent: max(p.columns.total, 2))
    let coordinate = delinearize(IndexExpression(variable), p.positions.map(\.extent))
    let place = zip(coordinate, p.positions).reduce(IndexExpression(0)) {
      $0 + $1.0 * $1.1.stride
    }
    return (0..<p.panelWidth).map { lane in
      let at = text.add(column, lane)
      let inside = text.compare(.slt, at, p.columns.total)
      let safe = text.select(inside, at, .index(p.columns.total - 1))
      return index(place, [variable: safe])
    }
  }

  /// One row of a panel: the elements under a tap.
  private mutating func copyTap(
    _ p: PackStatement, from base: Operand, _ offset: Operand, _ positions: [Operand],
    to destination: Operand, isVector: Bool
  ) {
    let (element, align) = (p.type.llvmType, p.type.byteCount)
    func source(_ lane: Int) -> Operand {
      text.offset(base, text.add(offset, positions[lane]), of: element)
    }
    if isVector {
      let value = text.load(element, p.panelWidth, from: source(0), align: align)
      text.store(value, to: destination, align: align)
      return
    }
    for lane in 0..<p.panelWidth {
      let value = text.load(element, 0, from: source(lane), align: align)
      text.store(value, to: text.offset(destination, .index(lane), of: element), align: align)
    }
  }

  /// Nested loops over the taps; the body gets the tap's number and its offset in the source.
  private mutating func overTaps(
    _ taps: ArraySlice<PackStatement.Axis>, row: Operand, offset: Operand,
    _ body: (inout KernelEmitter, Operand, Operand) -> Void
  ) {
    guard let axis = taps.first else {
      body(&self, row, offset)
      return
    }
    _ = counted(from: .index(0), to: .index(axis.extent)) { e, i, _ in
      let nextRow = e.text.add(e.text.multiply(row, axis.extent), i)
      let nextOffset = e.text.add(offset, e.text.multiply(i, axis.stride))
      e.overTaps(taps.dropFirst(), row: nextRow, offset: nextOffset, body)
      return []
    }
  }
}
