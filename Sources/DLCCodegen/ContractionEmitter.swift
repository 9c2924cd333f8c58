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
    /// What becomes of the sums, and where the operands of that begin in the block; nil: they are stored.
    var finish: (program: FinishProgram, places: [Operand])?
  }

  /// Calls of microkernels over the tiles of a block: parts of the depth, panels, then rows.
  mutating func emit(_ c: ContractStatement) {
    guard c.rows.total > 0, c.columns.total > 0 else { return }
    let a = address(c.a, index(c.aBase), c.types.a)
    let b = address(c.b, index(c.bBase), c.types.b)
    let target = PartTarget(
      pointer: address(c.c, index(c.cBase), c.types.c), rowStride: .index(c.cRowStride),
      accumulates: .bool(c.accumulates))
    let finish = c.finish.map { finish in
      // Where lines end, places are asked for tile by tile.
      (
        finish.program,
        finish.accesses.map {
          $0.line == nil ? address($0.memory, index($0.base), $0.type) : pointers[$0.memory]!
        }
      )
    }
    perExtent(c.columns) { e, columns in
      e.perExtent(c.rows) { e, rows in
        var part = Part(statement: c, a: a, b: b, target: target, rows: rows, columns: columns)
        // The last part of the depth, at which sums are complete.
        let last = c.depth <= c.depthBlock ? 0 : (c.depth - 1) / c.depthBlock * c.depthBlock
        if last > 0 {
          e.emitParts(
            part, from: .index(0), to: .index(c.finish == nil ? c.depth : last),
            level: SumOrder.levels(c.depth, chain: c.depthBlock))
          if c.finish == nil { return }
          part.target.accumulates = .bool(true)
        }
        part.finish = finish
        e.emit(part, k: .index(last), depth: .index(c.depth - last))
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
      // Whole vectors where there is room for them, but none that holds no column.
      let (rest, lanes) = (
        part.columns % c.panelWidth, text.target.vectorBytes / c.types.c.byteCount
      )
      let width = c.cIsPadded && part.finish == nil ? (rest + lanes - 1) / lanes * lanes : rest
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
    let accumulates = text.cast(.zext, target.accumulates, to: .i64)
    let cOffset = text.multiply(panel, c.panelWidth)
    let laneCount = text.target.vectorBytes / c.types.c.byteCount
    var row = 0
    let layout: Microkernel.Layout =
      c.aIsInStrips ? .strips : c.aDepthStride == 1 ? .rows : .strided
    for (height, count) in RegisterTile(rows: c.tileRows, vectors: 1).heights(part.rows) {
      let kernel = Microkernel(
        types: c.types, rows: height,
        vectors: (columns + laneCount - 1) / laneCount,
        isMasked: columns % laneCount != 0, layout: layout, finish: part.finish?.program)
      microkernels.insert(kernel)
      kernel.declare(in: text)
      _ = counted(from: .index(0), to: .index(count)) { e, tile, _ in
        let text = e.text
        let first = text.add(text.multiply(tile, height), row)
        let aDepth = text.multiply(k, c.aIsInStrips ? height : c.aDepthStride)
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
          ] + e.finishArguments(part, first, column: cOffset))
        return []
      }
      row += height * count
    }
  }

  /// Where the operands of a finish lie for a register tile, and how far apart their rows are.
  private mutating func finishArguments(_ part: Part, _ row: Operand, column: Operand)
    -> [Operand]
  {
    guard let finish = part.statement.finish, let places = part.finish?.places else { return [] }
    return zip(finish.accesses, places).flatMap { access, place -> [Operand] in
      if let line = access.line {
        let (rows, type) = (part.statement.rows, access.type.llvmStorage)
        let begin = rows.index.map { text.multiply(variables[$0]!, rows.size) } ?? .index(0)
        let first = text.add(begin, row)
        let count = text.subtract(.index(line), text.integer(.urem, first, line))
        let next = text.subtract(
          index(access.base, [finish.row: text.add(first, count)]),
          text.multiply(count, access.rowStride))
        let at = index(access.base, [finish.row: first])
        return [
          text.offset(place, text.add(at, column), of: type), .index(access.rowStride),
          text.offset(place, text.add(next, column), of: type), count,
        ]
      }
      var at = text.multiply(row, access.rowStride)
      if access.columnStride == 1 { at = text.add(at, column) }
      return [text.offset(place, at, of: access.type.llvmStorage), .index(access.rowStride)]
    }
  }

  /// Where the elements of a panel's row come from, for all taps alike.
  private enum PanelSource {
    /// Neighbours from one place on.
    case run(Operand)
    /// Vectors that go over the ends of rows: each from a place on, and from a lane on from another.
    case pieces([[(start: Operand, lanesBefore: Operand?)]])
    /// A place for each lane.
    case scattered([Operand])
  }

  /// Panels of an implicit convolution matrix. A panel whose positions are neighbours in memory is
  /// copied by vectors; so is one whose positions are neighbours but for the ends of rows, and any other lane by lane.
  mutating func emit(_ p: PackStatement) {
    let base = address(p.source, index(p.base), p.type)
    let (begin, end) = bounds(p.columns)
    let depth = p.taps.reduce(1) { $0 * $1.extent }
    let width = p.panelWidth
    let destination = pointers[p.destination]!
    _ = counted(from: begin, to: end, step: width) { e, column, _ in
      let text = e.text
      let panelStart = text.multiply(text.subtract(column, begin), depth)
      func copy(_ e: inout KernelEmitter, _ source: PanelSource) {
        e.overTaps(p.taps[...], row: .index(0), offset: .index(0)) { e, row, offset in
          let to = text.offset(
            destination, text.add(panelStart, text.multiply(row, width)), of: p.type.llvmType)
          e.copyTap(p, from: text.offset(base, offset, of: p.type.llvmType), source, to: to)
        }
      }
      let first = e.position(p, column)
      let span = text.subtract(e.position(p, text.add(column, width - 1)), first)
      // Columns beyond the last repeat it, so that only a whole panel can be a run.
      let isDense = text.compare(.eq, span, (width - 1) * e.columnStride(p))
      let isWhole = text.compare(.slt, text.add(column, width - 1), p.columns.total)
      let (run, other, done) = (text.label("run"), text.label("other"), text.label("packed"))
      text.branch(if: text.integer(.and, isDense, isWhole), run, else: other)
      text.start(run)
      copy(&e, .run(first))
      text.branch(to: done)
      text.start(other)
      if let lanes = e.pieceLanes(p) {
        let (pieces, scattered) = (text.label("pieces"), text.label("scattered"))
        text.branch(if: isWhole, pieces, else: scattered)
        text.start(pieces)
        copy(&e, .pieces(e.pieces(p, column, lanes)))
        text.branch(to: done)
        text.start(scattered)
      }
      copy(&e, .scattered((0..<width).map { e.position(p, text.add(column, $0)) }))
      text.branch(to: done)
      text.start(done)
      return []
    }
  }

  /// Where a position lies in the source; one beyond the last column repeats it.
  private mutating func position(_ p: PackStatement, _ column: Operand) -> Operand {
    let variable = LoopVariable(id: -1, extent: max(p.columns.total, 2))
    let coordinate = delinearize(IndexExpression(variable), p.positions.map(\.extent))
    let place = zip(coordinate, p.positions).reduce(IndexExpression(0)) {
      $0 + $1.0 * $1.1.stride
    }
    let inside = text.compare(.slt, column, p.columns.total)
    let safe = text.select(inside, column, .index(p.columns.total - 1))
    return index(place, [variable: safe])
  }

  /// How far apart neighbouring columns are that vectors are loaded from; 1 for those that are too far apart.
  private func columnStride(_ p: PackStatement) -> Int {
    let stride = p.positions.last?.stride ?? 1
    return stride <= Self.greatestSpread ? max(stride, 1) : 1
  }

  /// Lanes of the vectors that a panel is copied in where its positions are regular but for the ends of rows; nil
  /// where they are not, or where rows are so short that a vector has too many of them.
  private func pieceLanes(_ p: PackStatement) -> Int? {
    let lanes = text.target.vectorBytes / p.type.byteCount
    guard let row = p.positions.last, row.stride == columnStride(p), p.positions.count > 1,
      p.positions[p.positions.count - 2].stride >= row.extent * row.stride,
      p.panelWidth % lanes == 0, (lanes - 2) / row.extent < 4
    else { return nil }
    return lanes
  }

  /// The places that each vector of a panel is put together from. All of them, and their ends, lie between the
  /// vector's first and last element, as gaps only move elements apart.
  private mutating func pieces(_ p: PackStatement, _ column: Operand, _ lanes: Int) -> [[(
    start: Operand, lanesBefore: Operand?
  )]] {
    let row = p.positions.last!.extent
    return (0..<p.panelWidth / lanes).map { vector in
      let first = text.add(column, vector * lanes)
      let inRow = text.integer(.urem, first, row)
      var list: [(start: Operand, lanesBefore: Operand?)] = [(position(p, first), nil)]
      // So many ends of rows may lie between the first lane and the last.
      for end in 1...(lanes - 2) / row + 1 {
        let lane = text.subtract(.index(end * row), inRow)
        let isInside = text.compare(.slt, lane, lanes)
        let shift = text.select(isInside, lane, .index(0))
        let start = text.subtract(
          position(p, text.add(first, shift)), text.multiply(shift, columnStride(p)))
        list.append((start, text.mask(lanes, before: lane)))
      }
      return list
    }
  }

  /// One row of a panel: the elements under a tap.
  private mutating func copyTap(
    _ p: PackStatement, from base: Operand, _ source: PanelSource, to destination: Operand
  ) {
    let (element, align) = (p.type.llvmType, p.type.byteCount)
    let stride = columnStride(p)
    func place(_ at: Operand) -> Operand { text.offset(base, at, of: element) }
    func load(_ lanes: Int, from at: Operand) -> Operand {
      stride == 1
        ? text.load(element, lanes, from: place(at), align: align)
        : loadSpread(p.type, lanes, from: place(at), by: stride)
    }
    switch source {
    case .run(let start):
      let lanes = stride == 1 ? p.panelWidth : text.target.vectorBytes / p.type.byteCount
      for first in Swift.stride(from: 0, to: p.panelWidth, by: lanes) {
        let value = load(lanes, from: text.add(start, first * stride))
        let at = text.offset(destination, .index(first), of: element)
        text.store(value, to: at, align: align)
      }
    case .pieces(let vectors):
      let lanes = p.panelWidth / vectors.count
      for (number, pieces) in vectors.enumerated() {
        var value = load(lanes, from: pieces[0].start)
        for piece in pieces.dropFirst() {
          let other = load(lanes, from: piece.start)
          value = text.select(piece.lanesBefore!, value, other)
        }
        text.store(
          value, to: text.offset(destination, .index(number * lanes), of: element), align: align)
      }
    case .scattered(let places):
      for (lane, at) in places.enumerated() {
        let value = text.load(element, 0, from: place(at), align: align)
        text.store(value, to: text.offset(destination, .index(lane), of: element), align: align)
      }
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
