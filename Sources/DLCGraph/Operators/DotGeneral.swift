package import DLCTensor

/// Products summed over the contracting axes, for every batch index. Result axes: batch, the left operand's free
/// axes, the right one's.
package struct DotGeneral: Operator {
  package var geometry: ContractionGeometry
  /// The type that factors are converted to, products are summed in, and the result has; nil: that of the
  /// operands, which then have one type.
  package var sumType: DataType?
  package init(
    lhsBatch: [Int] = [], rhsBatch: [Int] = [], lhsContracting: [Int], rhsContracting: [Int],
    into sumType: DataType? = nil
  ) {
    self.sumType = sumType
    geometry = ContractionGeometry(
      lhsBatch: lhsBatch, rhsBatch: rhsBatch, lhsContracting: lhsContracting,
      rhsContracting: rhsContracting)
  }

  package static let mnemonics = ["dot_general"]
  package var mnemonic: String { "dot_general" }
  package var attributes: [Attribute] {
    [
      Attribute("lhs_batch", .integers(geometry.lhsBatch)),
      Attribute("rhs_batch", .integers(geometry.rhsBatch)),
      Attribute("lhs_contracting", .integers(geometry.lhsContracting)),
      Attribute("rhs_contracting", .integers(geometry.rhsContracting)),
    ] + (sumType.map { [Attribute("into", .type($0))] } ?? [])
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    geometry = ContractionGeometry(
      lhsBatch: try attributes.integers("lhs_batch"),
      rhsBatch: try attributes.integers("rhs_batch"),
      lhsContracting: try attributes.integers("lhs_contracting"),
      rhsContracting: try attributes.integers("rhs_contracting"))
    // Files of before have none.
    sumType = try attributes.optionalType("into")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 2)
    let (a, b, g) = (operands[0], operands[1], geometry)
    let type = try productType(a.dataType, b.dataType, into: sumType, "multiplied")
    try requireAxes(g.lhsBatch + g.lhsContracting, rank: a.rank, "lhs-axes")
    try requireAxes(g.rhsBatch + g.rhsContracting, rank: b.rank, "rhs-axes")
    try require(
      g.lhsBatch.count == g.rhsBatch.count && g.lhsContracting.count == g.rhsContracting.count,
      "paired-axes", "the two operands name different numbers of axes")
    for (x, y) in zip(g.lhsBatch + g.lhsContracting, g.rhsBatch + g.rhsContracting) {
      try requireEqual(a.shape[x], b.shape[y], "paired-sizes")
    }
    return [
      TensorType(
        type,
        g.lhsBatch.map { a.shape[$0] } + g.lhsFree(a.rank).map { a.shape[$0] }
          + g.rhsFree(b.rank).map { b.shape[$0] })
    ]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    let (a, b, g) = (operands[0], operands[1], geometry)
    var out = ReferenceArray(results[0].dataType, results[0].sizes)
    let (lhsFree, rhsFree) = (g.lhsFree(a.shape.count), g.rhsFree(b.shape.count))
    let inner = g.lhsContracting.map { a.shape[$0] }
    let (aStrides, bStrides) = (rowMajorStrides(a.shape), rowMajorStrides(b.shape))
    var pairs: [(Int, Int)] = []  // offsets of the contracted elements
    forEachCoordinate(inner) { k in
      pairs.append(
        (
          zip(g.lhsContracting, k).reduce(0) { $0 + aStrides[$1.0] * $1.1 },
          zip(g.rhsContracting, k).reduce(0) { $0 + bStrides[$1.0] * $1.1 }
        ))
    }
    for index in 0..<out.count {
      let position = unflatten(index, out.shape)
      var (aBase, bBase) = (0, 0)
      for (i, axis) in (g.lhsBatch + lhsFree).enumerated() { aBase += aStrides[axis] * position[i] }
      for (i, axis) in g.rhsBatch.enumerated() { bBase += bStrides[axis] * position[i] }
      for (i, axis) in rhsFree.enumerated() {
        bBase += bStrides[axis] * position[g.lhsBatch.count + lhsFree.count + i]
      }
      if a.type.isFloat {
        var sum = 0.0
        for (i, j) in pairs { sum += a.reals[aBase + i] * b.reals[bBase + j] }
        out.reals[index] = sum
      } else {
        var sum: Int64 = 0
        for (i, j) in pairs { sum = sum &+ a.integers[aBase + i] &* b.integers[bBase + j] }
        out.integers[index] = sum
      }
    }
    return [out]
  }

  package var derivative: Derivative {
    let (geometry, sumType) = (geometry, sumType)
    return .rule { p in
      let d = p.cotangent
      // Products with the cotangent are summed in its type; each operand's is rounded to its own.
      func wide(_ x: Value) -> Value { sumType.map { p.g.convert(x, $0) } ?? x }
      let (a, b) = (wide(p.operands[0]), wide(p.operands[1]))
      let batch = geometry.lhsBatch.count
      let (aFree, bFree) = (geometry.lhsFree(a.rank), geometry.rhsFree(b.rank))
      let batchAxes = Array(0..<batch)
      let aFreeAxes = Array(batch..<batch + aFree.count)
      let bFreeAxes = Array(batch + aFree.count..<batch + aFree.count + bFree.count)
      // dA: contract d with b over b's free axes; the result has axes batch, a's free, b's contracting.
      let da = p.g.dotGeneral(
        d, b, lhsBatch: batchAxes, rhsBatch: geometry.rhsBatch, lhsContracting: bFreeAxes,
        rhsContracting: bFree)
      let db = p.g.dotGeneral(
        a, d, lhsBatch: geometry.lhsBatch, rhsBatch: batchAxes, lhsContracting: aFree,
        rhsContracting: aFreeAxes)
      // The contracting axes come out in ascending order of the other operand's axes.
      func order(_ mine: [Int], _ others: [Int]) -> [Int] {
        zip(others, mine).sorted { $0.0 < $1.0 }.map(\.1)
      }
      let aAxes =
        geometry.lhsBatch + aFree + order(geometry.lhsContracting, geometry.rhsContracting)
      let bAxes =
        geometry.rhsBatch + order(geometry.rhsContracting, geometry.lhsContracting) + bFree
      func inverse(_ axes: [Int]) -> [Int] {
        var result = axes
        for (position, axis) in axes.enumerated() { result[axis] = position }
        return result
      }
      return [
        p.g.convert(p.g.transpose(da, inverse(aAxes)), p.operands[0].dataType),
        p.g.convert(p.g.transpose(db, inverse(bAxes)), p.operands[1].dataType),
      ]
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .contraction(geometry)
  }

  package static var samples: [OperatorSample] {
    func sample(_ operation: DotGeneral, _ a: [Size], _ b: [Size], _ types: [DataType])
      -> [OperatorSample]
    {
      types.map {
        OperatorSample(.dotGeneral(operation), [TensorType($0, a), TensorType($0, b)])
      }
    }
    func mixed(_ a: DataType, _ b: DataType, _ c: DataType) -> [OperatorSample] {
      [([7, 13], [13, 19]), ([40, 70], [70, 50]), ([1, 9], [9, 33])].map { x, y in
        OperatorSample(
          .dotGeneral(DotGeneral(lhsContracting: [1], rhsContracting: [0], into: c)),
          [TensorType(a, x), TensorType(b, y)])
      }
    }
    let floats: [DataType] = [.float32, .float64]
    return mixed(.int8, .uint8, .int32) + mixed(.uint8, .uint8, .int32)
      + mixed(.int32, .int32, .int64) + mixed(.float32, .float32, .float64)
      + mixed(.bfloat16, .bfloat16, .float32) + mixed(.float16, .float32, .float32)
      + sample(
        DotGeneral(lhsContracting: [1], rhsContracting: [0]), [7, 13], [13, 19],
        floats + [.int32, .float16, .bfloat16])
      + sample(DotGeneral(lhsContracting: [1], rhsContracting: [1]), [33, 40], [18, 40], floats)
      + sample(DotGeneral(lhsContracting: [0], rhsContracting: [0]), [9, 17], [9, 35], floats)
      + sample(
        DotGeneral(lhsBatch: [0, 2], rhsBatch: [0, 1], lhsContracting: [3], rhsContracting: [3]),
        [2, 5, 3, 8], [2, 3, 6, 8], floats)
      + sample(
        DotGeneral(lhsContracting: [0, 2], rhsContracting: [2, 1]), [3, 4, 5], [6, 5, 3], floats)
      + sample(DotGeneral(lhsContracting: [], rhsContracting: []), [3], [4], floats)
      + sample(DotGeneral(lhsContracting: [0], rhsContracting: [0]), [31], [31], floats)
      + sample(DotGeneral(lhsContracting: [1], rhsContracting: [0]), [1, 130], [130, 50], floats)
      + sample(
        DotGeneral(lhsContracting: [1], rhsContracting: [0]), [130, 700], [700, 70], [.float32])
      + sample(DotGeneral(lhsContracting: [1], rhsContracting: [0]), [4, 0], [0, 5], [.float32])
  }
}

extension ContractionGeometry {
  package func lhsFree(_ rank: Int) -> [Int] {
    (0..<rank).filter { !lhsBatch.contains($0) && !lhsContracting.contains($0) }
  }
  package func rhsFree(_ rank: Int) -> [Int] {
    (0..<rank).filter { !rhsBatch.contains($0) && !rhsContracting.contains($0) }
  }
}
