package import DLCTensor

/// The number (int32) of the first largest or smallest element under each window that slides over the
/// axes after the first `leading`: its row-major position in those axes of the operand.
package struct ArgWindow: Operator {
  package var geometry: ArgWindowGeometry
  package init(_ geometry: ArgWindowGeometry) { self.geometry = geometry }

  package static let mnemonics = ["window_argmax", "window_argmin"]
  package var mnemonic: String { geometry.largest ? "window_argmax" : "window_argmin" }
  package var attributes: [Attribute] {
    [
      Attribute("window", .integers(geometry.window)),
      Attribute("strides", .integers(geometry.strides)),
      Attribute("dilation", .integers(geometry.dilation)),
      Attribute("leading", .integer(geometry.leading)),
    ]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    geometry = ArgWindowGeometry(
      largest: mnemonic == "window_argmax", window: try attributes.integers("window"),
      strides: try attributes.integers("strides"), dilation: try attributes.integers("dilation"),
      leading: try attributes.integer("leading"))
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    let (x, g) = (operands[0], geometry)
    try require(
      g.leading >= 0 && g.leading <= x.rank, "window-rank", "there are not \(g.leading) axes")
    for list in [g.window, g.strides, g.dilation] {
      try require(list.count == x.rank, "window-rank", "attributes need \(x.rank) entries each")
      try require(
        list.allSatisfy { $0 >= 1 && $0 < 1 << 31 }, "window-attributes", "\(list) is out of range")
      try require(
        list[..<g.leading].allSatisfy { $0 == 1 }, "window-attributes",
        "leading axes have windows of one element")
    }
    var shape: [Size] = []
    for axis in 0..<x.rank {
      let extent = (g.window[axis] - 1) * g.dilation[axis] + 1
      try requireWindow(extent, fits: x.shape[axis], axis, x)
      let room = x.shape[axis] - Size(extent)
      shape.append(room / Size(g.strides[axis]) + 1)
    }
    return [TensorType(.int32, shape)]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    let (x, g) = (operands[0], geometry)
    var out = ReferenceArray(.int32, results[0].sizes)
    func isNaN(_ v: ScalarConstant) -> Bool { if case .float(let f) = v { f.isNaN } else { false } }
    for index in 0..<out.count {
      let position = unflatten(index, out.shape)
      var best: ScalarConstant?
      forEachCoordinate(g.window) { tap in
        let place = position.indices.map {
          position[$0] * g.strides[$0] + tap[$0] * g.dilation[$0]
        }
        let value = x[at: place]
        let isBetter =
          best.map {
            !isNaN($0)
              && (isNaN(value)
                || ScalarReference.compare(g.largest ? .greater : .less, value, $0, x.type))
          } ?? true
        guard isBetter else { return }
        best = value
        out.integers[index] = Int64(
          flatten(Array(place[g.leading...]), Array(x.shape[g.leading...])))
      }
    }
    return [out]
  }

  package var derivative: Derivative { .zero }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .argWindow(geometry)
  }

  package static var samples: [OperatorSample] {
    func sample(
      _ largest: Bool, _ window: [Int], _ strides: [Int], _ dilation: [Int], _ leading: Int,
      _ type: TensorType
    ) -> OperatorSample {
      OperatorSample(
        .argWindow(
          ArgWindow(
            ArgWindowGeometry(
              largest: largest, window: window, strides: strides, dilation: dilation,
              leading: leading))), [type])
    }
    return [true, false].flatMap { largest in
      [
        sample(
          largest, [1, 1, 2, 2], [1, 1, 2, 2], [1, 1, 1, 1], 2, TensorType(.float32, [2, 3, 7, 9])),
        sample(largest, [3, 2], [1, 2], [2, 1], 0, TensorType(.int32, [8, 11])),
        sample(largest, [1, 5], [1, 1], [1, 1], 1, TensorType(.float64, [3, 24])),
      ]
    }
  }
}
