import DLCKernel
import DLCTensor

/// Vectors of numbers, as the transforms of convolutions combine them.
private struct VectorArithmetic: LinearArithmetic {
  let text: FunctionText

  private func literal(_ factor: Double, _ like: Operand) -> Operand {
    .real(factor, like.type, like.lanes)
  }
  func multiply(_ a: Operand, _ factor: Double) -> Operand {
    text.real(.fmul, a, literal(factor, a))
  }
  func multiplyAdd(_ a: Operand, _ factor: Double, _ b: Operand) -> Operand {
    text.multiplyAdd(a, literal(factor, a), b)
  }
  func add(_ a: Operand, _ b: Operand) -> Operand { text.real(.fadd, a, b) }
  func subtract(_ a: Operand, _ b: Operand) -> Operand { text.real(.fsub, a, b) }
}

/// Tiles of images on their way into products, and products on their way back: a lane is a tile.
extension KernelEmitter {
  mutating func emit(_ w: WinogradStatement) {
    let source = address(w.source, index(w.sourceBase), w.type)
    let destination = address(w.destination, index(w.destinationBase), w.type)
    let (begin, end) = bounds(w.lines)
    let count = text.multiply(text.subtract(end, begin), w.tilesPerLine)
    let lanes = text.target.vectorBytes / w.type.byteCount
    _ = counted(from: .index(0), to: count, step: lanes) { e, first, _ in
      switch w.direction {
      case .input(let planes, let panels):
        e.emitInput(w, planes, panels, tile: first, of: count, begin, source, destination)
      case .output(let productStride, let room):
        e.emitOutput(w, productStride, room, tile: first, source, destination)
      }
      return []
    }
  }

  /// Where the lanes' tiles begin, from the first image of the block on; lanes beyond the last repeat it.
  private func tileOffsets(
    _ w: WinogradStatement, _ planes: WinogradStatement.Planes, tile: Operand, of count: Operand,
    _ line: Operand, _ lanes: Int
  ) -> Operand {
    func all(_ value: Operand) -> Operand {
      text.splat(text.cast(.trunc, value, to: .i32), lanes)
    }
    let wanted = text.integer(
      .add, all(tile), .integers(Array(0..<lanes), .i32))
    let last = all(text.add(count, -1))
    let inside = text.select(text.compare(.slt, wanted, last), wanted, last)
    let firstLine = text.integer(.urem, line, w.linesPerImage)
    let lines = text.integer(
      .add, text.integer(.udiv, inside, w.tilesPerLine), all(firstLine))
    let image = text.integer(.udiv, lines, w.linesPerImage)
    let row = text.integer(.urem, lines, w.linesPerImage)
    let column = text.integer(.urem, inside, w.tilesPerLine)
    let outputs = w.transform.outputs
    let across = text.integer(
      .add, text.integer(.mul, image, planes.imageStride),
      text.integer(.mul, row, outputs * planes.lineStride))
    return text.integer(.add, across, text.integer(.mul, column, outputs))
  }

  /// Squares of inputs for a vector of tiles, channel by channel.
  private mutating func emitInput(
    _ w: WinogradStatement, _ planes: WinogradStatement.Planes, _ panels: WinogradStatement.Panels,
    tile: Operand, of count: Operand, _ line: Operand, _ source: Operand, _ destination: Operand
  ) {
    let (element, align) = (w.type.llvmType, w.type.byteCount)
    let lanes = text.target.vectorBytes / w.type.byteCount
    let offsets = tileOffsets(w, planes, tile: tile, of: count, line, lanes)
    let image = text.multiply(text.integer(.udiv, line, w.linesPerImage), planes.imageStride)
    let panel = text.multiply(text.integer(.udiv, tile, panels.width), panels.panelStride)
    let place = text.add(panel, text.integer(.urem, tile, panels.width))
    let (first, end) = bounds(planes.channels)
    _ = counted(from: .index(0), to: text.subtract(end, first)) { e, channel, _ in
      let text = e.text
      var arithmetic = VectorArithmetic(text: text)
      let plane = text.offset(
        source, text.add(image, text.multiply(channel, planes.channelStride)), of: element)
      let range = 0..<w.transform.inputs
      // A column at a time, so that few vectors live.
      let columns = range.map { j in
        w.transform.input(
          range.map { i in
            let from = text.offset(plane, .index(i * planes.lineStride + j), of: element)
            return text.gather(element, from: from, at: offsets, align: align)
          }, &arithmetic)
      }
      let to = text.add(place, text.multiply(channel, panels.channelStride))
      for i in range {
        let values = w.transform.input(columns.map { $0[i] }, &arithmetic)
        for (j, value) in values.enumerated() {
          let number = i * w.transform.inputs + j
          let at = text.offset(
            destination, text.add(to, number * panels.productStride), of: element)
          text.store(value, to: at, align: align)
        }
      }
      return []
    }
  }

  /// Squares of outputs from a vector of tiles' products, as rows of neighbours.
  private func emitOutput(
    _ w: WinogradStatement, _ productStride: Int, _ room: Int, tile: Operand, _ source: Operand,
    _ destination: Operand
  ) {
    let (element, align) = (w.type.llvmType, w.type.byteCount)
    let lanes = text.target.vectorBytes / w.type.byteCount
    var arithmetic = VectorArithmetic(text: text)
    let (inputs, outputs) = (w.transform.inputs, w.transform.outputs)
    let columns = (0..<inputs).map { j in
      w.transform.output(
        (0..<inputs).map { i in
          let at = text.add(tile, (i * inputs + j) * productStride)
          let from = text.offset(source, at, of: element)
          return text.load(element, lanes, from: from, align: align)
        }, &arithmetic)
    }
    for i in 0..<outputs {
      let row = interleaved(w.transform.output(columns.map { $0[i] }, &arithmetic))
      for (number, value) in row.enumerated() {
        let at = text.add(text.multiply(tile, outputs), i * room * outputs + number * lanes)
        text.store(value, to: text.offset(destination, at, of: element), align: align)
      }
    }
  }

  /// The elements of two or four vectors by turns.
  private func interleaved(_ vectors: [Operand]) -> [Operand] {
    func zip(_ a: Operand, _ b: Operand) -> [Operand] {
      let half = a.lanes / 2
      return [0, half].map { start in
        text.shuffle(a, b, (0..<half).flatMap { [start + $0, a.lanes + start + $0] })
      }
    }
    if vectors.count == 2 { return zip(vectors[0], vectors[1]) }
    let (even, odd) = (zip(vectors[0], vectors[2]), zip(vectors[1], vectors[3]))
    return zip(even[0], odd[0]) + zip(even[1], odd[1])
  }
}
