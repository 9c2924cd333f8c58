package import DLCTensor

/// Every element combined with all elements before it along an axis (or after it, in reverse),
/// itself included unless `exclusive`.
package struct Cumulative: Operator {
  package var geometry: PrefixGeometry
  package init(_ combiner: Combiner, axis: Int, reverse: Bool = false, exclusive: Bool = false) {
    geometry = PrefixGeometry(
      combiner: combiner, axis: axis, reverse: reverse, exclusive: exclusive)
  }

  package static let mnemonics = Combiner.allCases.map { "cumulative_\($0.rawValue)" }
  package var mnemonic: String { "cumulative_\(geometry.combiner.rawValue)" }
  package var attributes: [Attribute] {
    [
      Attribute("axis", .integer(geometry.axis)), Attribute("reverse", .flag(geometry.reverse)),
      Attribute("exclusive", .flag(geometry.exclusive)),
    ]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    geometry = PrefixGeometry(
      combiner: Combiner(rawValue: String(mnemonic.dropFirst("cumulative_".count)))!,
      axis: try attributes.integer("axis"), reverse: try attributes.flag("reverse"),
      exclusive: try attributes.flag("exclusive"))
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    try requireAxes([geometry.axis], rank: operands[0].rank, "cumulative-axis")
    try require(
      geometry.combiner.supports(operands[0].dataType), "element-type",
      "\(mnemonic) is not defined on \(operands[0].dataType)")
    return operands
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    let (x, g) = (operands[0], geometry)
    var out = ReferenceArray(x.type, x.shape)
    for index in 0..<out.count {
      var place = unflatten(index, x.shape)
      let here = place[g.axis]
      let last = x.shape[g.axis] - 1
      let range =
        g.reverse
        ? Array((g.exclusive ? here + 1 : here)..<(last + 1)).reversed().map { $0 }
        : Array(0..<(g.exclusive ? here : here + 1))
      var value = g.combiner.identity(x.type)
      for position in range {
        place[g.axis] = position
        value = g.combiner.reference(x.type, value, x[at: place])
      }
      out[index] = value
    }
    return [out]
  }

  package var derivative: Derivative {
    let geometry = geometry
    @Sendable func scan(
      _ g: FunctionBuilder, _ x: Value, _ c: Combiner, reverse: Bool, exclusive: Bool
    )
      -> Value
    {
      g.cumulative(c, x, axis: geometry.axis, reverse: reverse, exclusive: exclusive)
    }
    let (axis, reverse, exclusive) = (geometry.axis, geometry.reverse, geometry.exclusive)
    switch geometry.combiner {
    case .and, .or: return .zero
    case .sum:
      return .rule { p in
        [scan(p.g, p.cotangent, .sum, reverse: !reverse, exclusive: exclusive)]
      }
    case .product:
      return .rule { p in
        let (g, x, d) = (p.g, p.operands[0], p.cotangent)
        // dx_i = (product before i) s_i with s_i = d_i + x_(i+1) s_(i+1): exact at zeros.
        let before = scan(g, x, .product, reverse: reverse, exclusive: true)
        func leading(_ v: Value) -> Value {
          let order = [axis] + (0..<v.rank).filter { $0 != axis }
          return g.transpose(v, order)
        }
        let zero = g.slice(
          g.constant(0, like: leading(d)), axis: 0, from: 0, to: 1)
        let start = g.reshape(zero, Array(leading(d).shape.dropFirst()))
        let (_, sums) = g.scan(
          carried: [start], inputs: [leading(d), leading(x)], reverse: !reverse
        ) { _, carried, slices in
          // Exclusive: d_j meets the product of everything strictly before j.
          let (sum, d, x) = (carried[0], slices[0], slices[1])
          return exclusive ? ([x * sum + d], [sum]) : ([x * (d + sum)], [d + sum])
        }
        var back = [Int](repeating: 0, count: x.rank)
        let order = [axis] + (0..<x.rank).filter { $0 != axis }
        for (position, source) in order.enumerated() { back[source] = position }
        return [before * g.transpose(sums[0], back)]
      }
    case .maximum, .minimum:
      let comparison: Comparison = geometry.combiner == .maximum ? .greater : .less
      return .rule { p in
        let (g, x, d) = (p.g, p.operands[0], p.cotangent)
        // The element that holds the record so far takes the cotangents of its whole reign.
        let before = scan(g, x, geometry.combiner, reverse: reverse, exclusive: true)
        let position = g.iota(.int64, x.shape, axis: axis)
        let rank =
          reverse
          ? g.broadcast(g.dimension(x.shape[axis], .int64), to: x.shape) - position : position
        let record = g.select(
          g.compare(comparison, x, before), rank, g.constant(-1, .int64, x.shape))
        var holder = g.cumulative(
          .maximum, record, axis: axis, reverse: reverse, exclusive: exclusive)
        holder = g.maximum(holder, g.constant(-1, like: holder))
        let none = g.constant(-1, like: holder)
        let place =
          reverse
          ? g.select(
            g.compare(.less, holder, g.constant(0, like: holder)), none,
            g.broadcast(g.dimension(x.shape[axis], .int64), to: x.shape) - holder) : holder
        return [g.scatterAlong(axis, g.constant(0, like: x), place, d)]
      }
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .prefix(geometry)
  }

  package static var samples: [OperatorSample] {
    Combiner.allCases.flatMap { combiner in
      [DataType.float32, .float64, .int32, .bool].filter { combiner.supports($0) }.flatMap { type in
        [0, 1, 2].flatMap { axis in
          [(false, false), (true, false), (false, true), (true, true)].filter {
            // The first exclusive extreme is infinite, which has no finite differences.
            !$0.1 || !type.isFloat || combiner == .sum || combiner == .product
          }.map { reverse, exclusive in
            OperatorSample(
              .cumulative(
                Cumulative(combiner, axis: axis, reverse: reverse, exclusive: exclusive)),
              [TensorType(type, [3, 6, 5])], range: 0.5...1.5)
          }
        }
      }
    }
  }
}
