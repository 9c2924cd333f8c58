package import DLCTensor

/// Combines all elements along the given axes, which disappear.
package struct Reduce: Operator {
  package var combiner: Combiner
  package var axes: [Int]
  package init(_ combiner: Combiner, axes: [Int]) {
    self.combiner = combiner
    self.axes = axes
  }

  package static let mnemonics = Combiner.allCases.map { "reduce_\($0.rawValue)" }
  package var mnemonic: String { "reduce_\(combiner.rawValue)" }
  package var attributes: [Attribute] { [Attribute("axes", .integers(axes))] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    combiner = Combiner(rawValue: String(mnemonic.dropFirst(7)))!
    axes = try attributes.integers("axes")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    let x = operands[0]
    try requireAxes(axes, rank: x.rank, "reduce-axes")
    try require(
      combiner.supports(x.dataType), "element-type", "\(mnemonic) is not defined on \(x.dataType)")
    return [
      TensorType(x.dataType, x.shape.indices.filter { !axes.contains($0) }.map { x.shape[$0] })
    ]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    let x = operands[0]
    var out = ReferenceArray(x.type, results[0].sizes)
    for index in 0..<out.count { out[index] = combiner.identity(x.type) }
    for index in 0..<x.count {
      let position = unflatten(index, x.shape)
      let target = flatten(
        position.indices.filter { !axes.contains($0) }.map { position[$0] }, out.shape)
      out[target] = combiner.reference(x.type, out[target], x[index])
    }
    return [out]
  }

  package var derivative: Derivative {
    let (combiner, axes) = (combiner, axes)
    switch combiner {
    case .and, .or: return .zero
    case .sum:
      return .rule { p in [p.g.restore(p.cotangent, axes: axes, to: p.operands[0].shape)] }
    case .product:
      return .rule { p in
        // The product of all the others is that of those before times that of those after.
        let (g, x) = (p.g, p.operands[0])
        let kept = x.shape.indices.filter { !axes.contains($0) }
        let order = kept + axes.sorted()
        let count = axes.reduce(Size(1)) { $0 * x.shape[$1] }
        let flat = g.reshape(g.transpose(x, order), kept.map { x.shape[$0] } + [count])
        let before = g.cumulative(.product, flat, axis: kept.count, exclusive: true)
        let after = g.cumulative(.product, flat, axis: kept.count, reverse: true, exclusive: true)
        var back = [Int](repeating: 0, count: x.rank)
        for (position, source) in order.enumerated() { back[source] = position }
        let others = g.transpose(
          g.reshape(before * after, order.map { x.shape[$0] }), back)
        return [others * g.restore(p.cotangent, axes: axes, to: x.shape)]
      }
    case .maximum, .minimum:
      return .rule { p in
        let (g, x) = (p.g, p.operands[0])
        // The first extreme element in row-major order of the reduced axes takes the cotangent.
        let extreme = g.compare(.equal, x, g.restore(p.results[0], axes: axes, to: x.shape))
        var position = g.constant(0, .int64, x.shape)
        for axis in axes.sorted() {
          let size = g.broadcast(g.dimension(x.shape[axis], .int64), to: x.shape)
          position = position * size + g.iota(.int64, x.shape, axis: axis)
        }
        let far = g.constant(Double(Int32.max) * 1024, .int64, x.shape)
        let candidates = g.select(extreme, position, far)
        let first = g.restore(g.reduce(.minimum, candidates, axes: axes), axes: axes, to: x.shape)
        let d = g.restore(p.cotangent, axes: axes, to: x.shape)
        return [g.select(g.compare(.equal, candidates, first) & extreme, d, g.constant(0, like: d))]
      }
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .reduction(combiner, axes: axes)
  }

  package static var samples: [OperatorSample] {
    var list: [OperatorSample] = []
    for combiner in Combiner.allCases {
      for type in [DataType.float32, .float64, .int32, .int64, .uint8, .bool, .float16]
      where combiner.supports(type) {
        for axes in [[1], [0], [0, 1], [0, 2], []] {
          list.append(
            OperatorSample(
              .reduce(Reduce(combiner, axes: axes)), [TensorType(type, [4, 19, 3])],
              range: 0.5...1.5))
        }
      }
    }
    list.append(OperatorSample(.reduce(Reduce(.sum, axes: [0])), [TensorType(.float32, [0, 3])]))
    list.append(OperatorSample(.reduce(Reduce(.sum, axes: [1])), [TensorType(.float32, [5, 300])]))
    return list
  }
}

extension Combiner {
  package func reference(_ type: DataType, _ a: ScalarConstant, _ b: ScalarConstant)
    -> ScalarConstant
  {
    let value = ScalarReference.apply(operation, type, [a, b])
    if case .integer(let pattern) = value { return .integer(wrap(pattern, type)) }
    return value
  }
}
