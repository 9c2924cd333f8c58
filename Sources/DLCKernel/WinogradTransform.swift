package import DLCTensor

/// What the transforms of a convolution do with numbers, whether these are written out or computed.
package protocol LinearArithmetic {
  associatedtype Value
  mutating func multiply(_ a: Value, _ factor: Double) -> Value
  /// a factor + b, rounded once where the target has the instruction.
  mutating func multiplyAdd(_ a: Value, _ factor: Double, _ b: Value) -> Value
  mutating func add(_ a: Value, _ b: Value) -> Value
  mutating func subtract(_ a: Value, _ b: Value) -> Value
}

/// F(outputs, 3): `outputs` neighbours of a convolution with three taps from `outputs` + 2 products, by evaluating
/// polynomials at as many points (Winograd 1980; Lavin and Gray 2016), along each of two axes.
///
/// The points are 0, infinity, and pairs of numbers that differ by their sign. For four outputs they are 3/4 and 3/2,
/// whose transforms are exact for small integers and lose the least among simple ones: with normally distributed
/// factors the error is five times that of a sum of products, 1.5e-6 of the root mean square for 256 channels
/// (with the usual 1 and 2 it is eleven times as much). For two outputs they lose as little as sums do.
package struct WinogradTransform: Hashable, Sendable, Codable {
  package let outputs: Int
  /// - Parameter outputs: 2 or 4.
  package init(outputs: Int) {
    precondition(outputs == 2 || outputs == 4, "there are transforms for 2 and 4 outputs")
    self.outputs = outputs
  }

  /// Inputs that the outputs of a tile come from, and products for them, along an axis.
  package var inputs: Int { outputs + 2 }
  /// Products for a tile.
  package var products: Int { inputs * inputs }

  /// The positive ones of the pairs.
  private var pairs: [Double] { outputs == 2 ? [1] : [0.75, 1.5] }

  /// The polynomial with the given roots, lowest coefficient first.
  private static func polynomial(_ roots: [Double]) -> [Double] {
    roots.reduce([1]) { p, root in
      (0...p.count).map { ($0 > 0 ? p[$0 - 1] : 0) - root * ($0 < p.count ? p[$0] : 0) }
    }
  }

  private var roots: [Double] { [0] + pairs.flatMap { [$0, -$0] } }

  // MARK: Along one axis

  /// The sum of values times coefficients, one of which is not 0.
  private func combination<A: LinearArithmetic>(
    _ terms: [(value: A.Value, factor: Double)], _ a: inout A
  ) -> A.Value {
    var terms = terms.filter { $0.factor != 0 }
    // What needs no multiplication first: the others are added to it.
    let first = terms.remove(at: terms.firstIndex { $0.factor == 1 } ?? 0)
    let start = first.factor == 1 ? first.value : a.multiply(first.value, first.factor)
    return terms.reduce(start) { sum, term in
      switch term.factor {
      case 1: a.add(sum, term.value)
      case -1: a.subtract(sum, term.value)
      default: a.multiplyAdd(term.value, term.factor, sum)
      }
    }
  }

  /// Values of a polynomial, or of a row of one of the matrices, at a point and at its opposite.
  private func pair<A: LinearArithmetic>(
    _ values: [A.Value], _ row: [Double], _ a: inout A
  ) -> [A.Value] {
    let terms = zip(values, row).map { (value: $0, factor: $1) }
    func half(_ parity: Int) -> [(value: A.Value, factor: Double)] {
      terms.indices.filter { $0 % 2 == parity }.map { terms[$0] }
    }
    let (even, odd) = (combination(half(0), &a), combination(half(1), &a))
    return [a.add(even, odd), a.subtract(even, odd)]
  }

  /// `inputs` neighbours of the input.
  package func input<A: LinearArithmetic>(_ d: [A.Value], _ a: inout A) -> [A.Value] {
    func plain(_ roots: [Double]) -> A.Value {
      combination(zip(d, Self.polynomial(roots)).map { (value: $0, factor: $1) }, &a)
    }
    var result = [plain(Array(roots.dropFirst()))]
    for point in pairs {
      result += pair(d, Self.polynomial(roots.filter { $0 != point }), &a)
    }
    result.append(plain(roots))
    return result
  }

  /// Three taps of a kernel.
  package func kernel<A: LinearArithmetic>(_ g: [A.Value], _ a: inout A) -> [A.Value] {
    func scale(_ point: Double) -> Double {
      1 / roots.filter { $0 != point }.reduce(1) { $0 * (point - $1) }
    }
    var result = [a.multiply(g[0], scale(0))]
    for point in pairs {
      let factor = scale(point)
      result += pair(g, [factor, factor * point, factor * point * point], &a)
    }
    result.append(g[2])
    return result
  }

  /// `inputs` products.
  package func output<A: LinearArithmetic>(_ m: [A.Value], _ a: inout A) -> [A.Value] {
    var (sums, differences) = ([A.Value](), [A.Value]())
    for number in pairs.indices {
      sums.append(a.add(m[1 + 2 * number], m[2 + 2 * number]))
      differences.append(a.subtract(m[1 + 2 * number], m[2 + 2 * number]))
    }
    return (0..<outputs).map { power in
      var terms: [(value: A.Value, factor: Double)] = []
      if power == 0 { terms.append((m[0], 1)) }
      if power == outputs - 1 { terms.append((m[inputs - 1], 1)) }
      for (number, point) in pairs.enumerated() {
        let factor = (0..<power).reduce(1.0) { product, _ in product * point }
        terms.append((power % 2 == 0 ? sums[number] : differences[number], factor))
      }
      return combination(terms, &a)
    }
  }

  // MARK: Along two axes

  /// Columns of a square, given by rows, then rows: `along` is one of the transforms above.
  package func both<V>(
    _ values: [[V]], _ along: ([V]) -> [V]
  ) -> [[V]] {
    let columns = values[0].indices.map { column in along(values.map { $0[column] }) }
    return columns[0].indices.map { row in along(columns.map { $0[row] }) }
  }
}

/// Brings tiles of images into the form in which they are multiplied, or products back.
///
/// Tiles are counted line by line over all images. A block has whole lines; its tiles stand side by side.
package struct WinogradStatement: Hashable, Sendable {
  package enum Direction: Hashable, Sendable {
    /// From planes of images to panels [products][panel][channel][width].
    case input(Planes, Panels)
    /// From rows [products][tile] to `outputs` rows [tile][outputs], one for each row of a tile. Rows have room
    /// for so many tiles: for whole vectors of them.
    case output(productStride: Int, room: Int)
  }

  /// Planes of images, which have room for whole tiles.
  package struct Planes: Hashable, Sendable {
    package var channels: BlockExtent
    package var channelStride: Int
    package var imageStride: Int
    package var lineStride: Int
    package init(channels: BlockExtent, channelStride: Int, imageStride: Int, lineStride: Int) {
      self.channels = channels
      self.channelStride = channelStride
      self.imageStride = imageStride
      self.lineStride = lineStride
    }
  }

  package struct Panels: Hashable, Sendable {
    package var productStride: Int
    package var panelStride: Int
    package var channelStride: Int
    package var width: Int
    package init(productStride: Int, panelStride: Int, channelStride: Int, width: Int) {
      self.productStride = productStride
      self.panelStride = panelStride
      self.channelStride = channelStride
      self.width = width
    }
  }

  package var transform: WinogradTransform
  package var direction: Direction
  package var type: DataType
  package var source: Memory
  package var sourceBase: IndexExpression
  package var destination: Memory
  package var destinationBase: IndexExpression
  /// Lines of tiles.
  package var lines: BlockExtent
  package var linesPerImage: Int
  package var tilesPerLine: Int

  package init(
    transform: WinogradTransform, direction: Direction, type: DataType, source: Memory,
    sourceBase: IndexExpression, destination: Memory, destinationBase: IndexExpression,
    lines: BlockExtent, linesPerImage: Int, tilesPerLine: Int
  ) {
    self.transform = transform
    self.direction = direction
    self.type = type
    self.source = source
    self.sourceBase = sourceBase
    self.destination = destination
    self.destinationBase = destinationBase
    self.lines = lines
    self.linesPerImage = linesPerImage
    self.tilesPerLine = tilesPerLine
  }

  /// Tiles of a whole block.
  package var tileCount: Int { min(lines.size, lines.total) * tilesPerLine }

  /// How far behind their bases the statement reads and writes.
  package var reach: (source: Int, destination: Int) {
    let (outputs, inputs, last) = (transform.outputs, transform.inputs, transform.products - 1)
    switch direction {
    case .input(let planes, let panels):
      let images = (lines.total + linesPerImage - 1) / linesPerImage
      // The bases already place the block: the last one bounds the reach.
      let channels =
        planes.channels.index == nil ? planes.channels.total : planes.channels.lastSize
      let tile =
        ((linesPerImage - 1) * outputs + inputs - 1) * planes.lineStride
        + (tilesPerLine - 1) * outputs + inputs - 1
      let count = (tileCount + panels.width - 1) / panels.width
      return (
        (channels - 1) * planes.channelStride + (images - 1) * planes.imageStride + tile,
        last * panels.productStride + (count - 1) * panels.panelStride
          + (channels - 1) * panels.channelStride + panels.width - 1
      )
    case .output(let productStride, let room):
      return (last * productStride + room - 1, outputs * outputs * room - 1)
    }
  }
}
