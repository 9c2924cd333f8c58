package import DLCTensor

/// An operand with slices combined into it at the positions that an integer array holds (StableHLO's
/// `scatter`), in row-major order of the updates. A slice that would stick out is left out as a whole.
package struct Scatter: Operator {
  package var axes: IndexAttributes
  /// nil: the slices replace what is there.
  package var combiner: Combiner?
  package init(_ axes: IndexAttributes, _ combiner: Combiner?) {
    self.axes = axes
    self.combiner = combiner
  }

  package static let mnemonics = ["scatter"]
  package var mnemonic: String { "scatter" }
  package var attributes: [Attribute] {
    axes.attributes(IndexAttributes.scatterNames)
      + [Attribute("combiner", .text(combiner?.rawValue ?? "replace"))]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    axes = try IndexAttributes(IndexAttributes.scatterNames, &attributes)
    let name = try attributes.text("combiner")
    combiner = Combiner(rawValue: name)
    guard combiner != nil || name == "replace" else {
      throw DLCError(.graph, "attribute 'combiner' has no choice '\(name)'")
    }
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 3)
    let (x, indices, updates) = (operands[0], operands[1], operands[2])
    try require(
      updates.dataType == x.dataType, "same-type", "updates are \(updates), the operand is \(x)")
    if let combiner {
      try require(
        combiner.supports(x.dataType), "element-type",
        "\(combiner.rawValue) is not defined on \(x.dataType)")
    }
    try axes.check(x, indices, slicedRank: updates.rank)
    let batch = axes.batchAxes(indices.rank).map { indices.shape[$0] }
    let kept = updates.shape.indices.filter { !axes.offsetAxes.contains($0) }
    for (a, b) in zip(batch, kept) { try requireEqual(a, updates.shape[b], "updates-shape") }
    for (axis, from) in zip(axes.windowAxes(x.rank), axes.offsetAxes) {
      if let size = updates.shape[from].constant, let whole = x.shape[axis].constant {
        try require(size <= whole, "updates-shape", "slices of \(size) exceed axis \(axis) of \(x)")
      }
    }
    return [x]
  }

  /// Sizes of the slices along the operand's axes.
  package func sliceSizes(_ operandRank: Int, _ updates: [Size]) -> [Size] {
    var sizes = [Size](repeating: 1, count: operandRank)
    for (axis, from) in zip(axes.windowAxes(operandRank), axes.offsetAxes) {
      sizes[axis] = updates[from]
    }
    return sizes
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    var out = operands[0]
    let updates = operands[2]
    let sizes = sliceSizes(out.shape.count, updates.shape.map { Size($0) })
    for index in 0..<updates.count {
      let (start, offset) = axes.positions(
        unflatten(index, updates.shape), operands[1], operandRank: out.shape.count)
      let isInside = axes.startAxes.allSatisfy {
        start[$0] >= 0 && start[$0] <= out.shape[$0] - sizes[$0].constant!
      }
      guard isInside else { continue }
      let place = flatten(zip(start, offset).map { $0 + $1 }, out.shape)
      out[place] = combiner?.reference(out.type, out[place], updates[index]) ?? updates[index]
    }
    return [out]
  }

  package var derivative: Derivative {
    let (axes, combiner) = (axes, combiner)
    if combiner == .and || combiner == .or { return .zero }
    return .rule { p in
      let (g, x, indices, updates) = (p.g, p.operands[0], p.operands[1], p.operands[2])
      let d = p.cotangent
      let sizes = Scatter(axes, nil).sliceSizes(x.rank, updates.shape)
      func gathered(_ source: Value) -> Value {
        g.add(.gather(Gather(axes, sliceSizes: sizes)), [source, indices])
      }
      // Slices that were left out get nothing.
      let wide = g.wideIndices(indices)
      let limits = g.indexLimits(wide, axes, x.shape, sizes)
      let zero = g.constant(0, like: wide)
      var inside = g.compare(.greater_equal, wide, zero) & g.compare(.less_equal, wide, limits)
      if axes.vectorAxis < indices.rank {
        inside = g.reduce(.and, inside, axes: [axes.vectorAxis])
      }
      let kept = updates.shape.indices.filter { !axes.offsetAxes.contains($0) }
      let counts = g.broadcast(inside, to: updates.shape, axes: kept)
      let nothing = g.constant(0, like: updates)
      switch combiner {
      case .sum?, .and?, .or?: return [d, nil, g.select(counts, gathered(d), nothing)]
      case nil:
        // Replacement: the last update of each place wins; what it covers of the operand loses.
        let number = g.updateNumbers(updates.shape)
        let none = g.constant(-1, .int64, x.shape)
        let winner = g.add(.scatter(Scatter(axes, nil)), [none, indices, number])
        let own = counts & g.compare(.equal, gathered(winner), number)
        let untouched = g.compare(.less, winner, g.constant(0, like: winner))
        return [
          g.select(untouched, d, g.constant(0, like: d)), nil, g.select(own, gathered(d), nothing),
        ]
      case .product?:
        // The product of all other factors of a place: that of the factors that are not zero over the
        // own one, when no other is zero.
        func isZero(_ v: Value) -> Value { g.compare(.equal, v, g.constant(0, like: v)) }
        func nonzero(_ v: Value) -> Value { g.select(isZero(v), g.constant(1, like: v), v) }
        func count(_ v: Value) -> Value { g.convert(isZero(v), .int32) }
        func scattered(_ c: Combiner, _ a: Value, _ b: Value) -> Value {
          g.add(.scatter(Scatter(axes, c)), [a, indices, b])
        }
        let factor = scattered(.product, nonzero(x), nonzero(updates))
        let zeros = scattered(.sum, count(x), count(updates))
        func others(_ own: Value, _ factor: Value, _ zeros: Value) -> Value {
          let rest = g.compare(.equal, zeros, count(own))
          return g.select(rest, factor / nonzero(own), g.constant(0, like: own))
        }
        let share = others(updates, gathered(factor), gathered(zeros)) * gathered(d)
        return [d * others(x, factor, zeros), nil, g.select(counts, share, nothing)]
      case .maximum?, .minimum?:
        // The first extreme wins: the operand's element, then updates in their order.
        let result = p.results[0]
        let operandWins = g.compare(.equal, x, result)
        let ties = counts & g.compare(.equal, updates, gathered(result))
        let number = g.updateNumbers(updates.shape)
        let far = g.constant(Double(1 << 60), like: number)
        let first = g.add(
          .scatter(Scatter(axes, .minimum)),
          [g.constant(Double(1 << 60), .int64, x.shape), indices, g.select(ties, number, far)])
        let own = ties & g.compare(.equal, gathered(first), number)
        let zeros = g.constant(0, like: d)
        let open = g.select(operandWins, zeros, d)
        return [
          g.select(operandWins, d, zeros), nil, g.select(own, gathered(open), nothing),
        ]
      }
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    let sizes = sliceSizes(operands[0].rank, operands[2].shape)
    return .scatter(IndexGeometry(axes: axes, sliceSizes: sizes.map { $0.constant! }), combiner)
  }

  package static var samples: [OperatorSample] {
    func sample(
      _ axes: IndexAttributes, _ combiner: Combiner?, _ x: TensorType, _ indices: TensorType,
      _ updates: [Size]
    ) -> OperatorSample {
      OperatorSample(
        .scatter(Scatter(axes, combiner)), [x, indices, TensorType(x.dataType, updates)])
    }
    let (rows, points, boxes, batched) = IndexAttributes.samples
    return [Combiner.sum, .maximum, .minimum, .product, nil].flatMap { combiner in
      [
        sample(rows, combiner, TensorType(.float32, [9, 19]), TensorType(.int32, [7]), [7, 19]),
        sample(points, combiner, TensorType(.float64, [6, 5]), TensorType(.int32, [8, 2]), [8]),
        sample(
          boxes, combiner, TensorType(.int32, [6, 7]), TensorType(.int64, [5, 2]), [5, 2, 3]),
        sample(
          batched, combiner, TensorType(.float32, [3, 8]), TensorType(.int32, [3, 11]), [3, 11]),
      ]
    }
  }
}

extension FunctionBuilder {
  /// The row-major number of each element.
  package func updateNumbers(_ shape: [Size]) -> Value {
    var number = constant(0, .int64, shape)
    for axis in shape.indices {
      number =
        number * broadcast(dimension(shape[axis], .int64), to: shape)
        + iota(.int64, shape, axis: axis)
    }
    return number
  }
}
