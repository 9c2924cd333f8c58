package import DLCTensor

/// The attributes that gather and scatter share (StableHLO's dimension numbers).
package struct IndexAttributes: Hashable, Sendable {
  /// Axes of the slices in the gathered result (or the scattered updates).
  package var offsetAxes: [Int]
  /// Operand axes that slices have with size 1 and that are left out.
  package var collapsedAxes: [Int]
  /// Operand axes that follow axes of the indices one to one.
  package var operandBatchAxes: [Int]
  package var indicesBatchAxes: [Int]
  /// The operand axis that each component of an index vector positions.
  package var startAxes: [Int]
  /// The axis of the indices along which the vectors lie; their rank when they are scalars.
  package var vectorAxis: Int

  package init(
    offsetAxes: [Int], collapsedAxes: [Int], operandBatchAxes: [Int] = [],
    indicesBatchAxes: [Int] = [], startAxes: [Int], vectorAxis: Int
  ) {
    self.offsetAxes = offsetAxes
    self.collapsedAxes = collapsedAxes
    self.operandBatchAxes = operandBatchAxes
    self.indicesBatchAxes = indicesBatchAxes
    self.startAxes = startAxes
    self.vectorAxis = vectorAxis
  }

  /// Attribute names, gather's or scatter's.
  static let gatherNames = [
    "offset_dims", "collapsed_slice_dims", "operand_batching_dims", "start_indices_batching_dims",
    "start_index_map",
  ]
  static let scatterNames = [
    "update_window_dims", "inserted_window_dims", "input_batching_dims",
    "scatter_indices_batching_dims", "scatter_dims_to_operand_dims",
  ]

  func attributes(_ names: [String]) -> [Attribute] {
    zip(names, [offsetAxes, collapsedAxes, operandBatchAxes, indicesBatchAxes, startAxes]).map {
      Attribute($0, .integers($1))
    } + [Attribute("index_vector_dim", .integer(vectorAxis))]
  }

  init(_ names: [String], _ reader: inout AttributeReader) throws(DLCError) {
    var lists: [[Int]] = []
    for name in names { lists.append(try reader.integers(name)) }
    (offsetAxes, collapsedAxes, operandBatchAxes) = (lists[0], lists[1], lists[2])
    (indicesBatchAxes, startAxes) = (lists[3], lists[4])
    vectorAxis = try reader.integer("index_vector_dim")
  }

  /// The axes of the indices other than the one that vectors lie along.
  package func batchAxes(_ indicesRank: Int) -> [Int] {
    (0..<indicesRank).filter { $0 != vectorAxis }
  }

  /// Rows and points of a matrix, boxes, and elements of rows that pair up with rows of indices.
  static let samples = (
    rows: IndexAttributes(offsetAxes: [1], collapsedAxes: [0], startAxes: [0], vectorAxis: 1),
    points: IndexAttributes(
      offsetAxes: [], collapsedAxes: [0, 1], startAxes: [1, 0], vectorAxis: 1),
    boxes: IndexAttributes(
      offsetAxes: [1, 2], collapsedAxes: [], startAxes: [0, 1], vectorAxis: 1),
    batched: IndexAttributes(
      offsetAxes: [], collapsedAxes: [1], operandBatchAxes: [0], indicesBatchAxes: [0],
      startAxes: [1], vectorAxis: 2)
  )

  /// Operand axes that slices keep.
  package func windowAxes(_ operandRank: Int) -> [Int] {
    (0..<operandRank).filter { !collapsedAxes.contains($0) && !operandBatchAxes.contains($0) }
  }

  /// What holds for gather and scatter alike. `sliced` has the rank of gather's result.
  func check(_ operand: TensorType, _ indices: TensorType, slicedRank: Int) throws(DLCError) {
    try require(
      indices.dataType.isInteger, "index-type", "indices are integers, not \(indices.dataType)")
    try require(
      vectorAxis >= 0 && vectorAxis <= indices.rank, "index-vector-dim",
      "index_vector_dim \(vectorAxis) is outside \(indices)")
    try requireAxes(
      collapsedAxes + operandBatchAxes, rank: operand.rank, "slice-axes")
    try requireAxes(startAxes + operandBatchAxes, rank: operand.rank, "start-axes")
    try requireAxes(indicesBatchAxes, rank: indices.rank, "indices-batch")
    try require(
      indicesBatchAxes.count == operandBatchAxes.count && !indicesBatchAxes.contains(vectorAxis),
      "indices-batch", "batching axes of operand and indices do not pair up")
    for (a, b) in zip(operandBatchAxes, indicesBatchAxes) {
      try requireEqual(operand.shape[a], indices.shape[b], "batch-size")
    }
    let components: Size = vectorAxis == indices.rank ? 1 : indices.shape[vectorAxis]
    try require(
      components == Size(startAxes.count), "index-vector",
      "index vectors have \(components) components for \(startAxes.count) axes")
    try require(
      offsetAxes.count == windowAxes(operand.rank).count
        && slicedRank == offsetAxes.count + batchAxes(indices.rank).count,
      "offset-axes", "offset axes \(offsetAxes) do not hold the slices of \(operand)")
    try requireAxes(offsetAxes, rank: slicedRank, "offset-axes")
    try require(offsetAxes == offsetAxes.sorted(), "offset-axes", "\(offsetAxes) do not ascend")
  }

  /// The reference's walk: the start of the slice that a result coordinate belongs to, unclamped,
  /// and the position in the slice, both along the operand's axes.
  func positions(_ coordinate: [Int], _ indices: ReferenceArray, operandRank: Int) -> (
    start: [Int], offset: [Int]
  ) {
    let batch = coordinate.indices.filter { !offsetAxes.contains($0) }.map { coordinate[$0] }
    var (start, offset) = (
      [Int](repeating: 0, count: operandRank), [Int](repeating: 0, count: operandRank)
    )
    for (component, axis) in startAxes.enumerated() {
      var place = batch
      if vectorAxis < indices.shape.count { place.insert(component, at: vectorAxis) }
      start[axis] = indices.position(flatten(place, indices.shape))
    }
    let order = batchAxes(indices.shape.count)
    for (axis, from) in zip(operandBatchAxes, indicesBatchAxes) {
      offset[axis] = batch[order.firstIndex(of: from)!]
    }
    for (axis, from) in zip(windowAxes(operandRank), offsetAxes) { offset[axis] = coordinate[from] }
    return (start, offset)
  }
}

/// Slices of an operand at the positions that an integer array holds (StableHLO's `gather`): a slice
/// that would stick out is moved inside.
package struct Gather: Operator {
  package var axes: IndexAttributes
  package var sliceSizes: [Size]
  package init(_ axes: IndexAttributes, sliceSizes: [Size]) {
    self.axes = axes
    self.sliceSizes = sliceSizes
  }

  package static let mnemonics = ["gather"]
  package var mnemonic: String { "gather" }
  package var attributes: [Attribute] {
    axes.attributes(IndexAttributes.gatherNames)
      + [Attribute("slice_sizes", .dimensions(sliceSizes))]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    axes = try IndexAttributes(IndexAttributes.gatherNames, &attributes)
    sliceSizes = try attributes.dimensions("slice_sizes")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 2)
    let (x, indices) = (operands[0], operands[1])
    try require(
      sliceSizes.count == x.rank, "slice-sizes", "slice_sizes need \(x.rank) entries")
    let batchRank = indices.rank - (axes.vectorAxis < indices.rank ? 1 : 0)
    try axes.check(x, indices, slicedRank: axes.offsetAxes.count + batchRank)
    for (axis, size) in sliceSizes.enumerated() {
      if axes.collapsedAxes.contains(axis) || axes.operandBatchAxes.contains(axis) {
        try require(size == 1, "slice-sizes", "axis \(axis) is left out but has slices of \(size)")
      }
      // Batch axes follow those of the indices, element by element: they may have none.
      if axes.operandBatchAxes.contains(axis) { continue }
      if let size = size.constant, let whole = x.shape[axis].constant {
        try require(
          size >= 0 && size <= whole, "slice-sizes", "slices of \(size) exceed axis \(axis) of \(x)"
        )
      }
    }
    var batch = axes.batchAxes(indices.rank).map { indices.shape[$0] }[...]
    var window = axes.windowAxes(x.rank).map { sliceSizes[$0] }[...]
    let shape = (0..<axes.offsetAxes.count + batchRank).map {
      axes.offsetAxes.contains($0) ? window.removeFirst() : batch.removeFirst()
    }
    return [TensorType(x.dataType, shape)]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    let x = operands[0]
    var out = ReferenceArray(x.type, results[0].sizes)
    for index in 0..<out.count {
      let (start, offset) = axes.positions(
        unflatten(index, out.shape), operands[1], operandRank: x.shape.count)
      let place = start.indices.map { axis in
        min(max(start[axis], 0), x.shape[axis] - sliceSizes[axis].constant!) + offset[axis]
      }
      out[index] = x[at: place]
    }
    return [out]
  }

  package var derivative: Derivative {
    let (axes, sizes) = (axes, sliceSizes)
    return .rule { p in
      let (g, x) = (p.g, p.operands[0])
      // Slices were moved inside, so the positions are clamped before they are scattered to.
      let indices = g.clampedIndices(p.operands[1], axes, x.shape, sizes)
      return [
        g.add(
          .scatter(Scatter(axes, .sum)), [g.constant(0, like: x), indices, p.cotangent]), nil,
      ]
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .gather(IndexGeometry(axes: axes, sliceSizes: sliceSizes.map { $0.constant! }))
  }

  package static var samples: [OperatorSample] {
    func sample(_ axes: IndexAttributes, _ sizes: [Int], _ x: TensorType, _ indices: TensorType)
      -> OperatorSample
    {
      OperatorSample(
        .gather(Gather(axes, sliceSizes: sizes.map { Size($0) })), [x, indices])
    }
    let columns = IndexAttributes(
      offsetAxes: [0], collapsedAxes: [1], startAxes: [1], vectorAxis: 1)
    let (rows, points, boxes, batched) = IndexAttributes.samples
    return [DataType.float32, .float64, .int32].flatMap { type in
      [
        sample(rows, [1, 19], TensorType(type, [9, 19]), TensorType(.int32, [7])),
        sample(columns, [4, 1], TensorType(type, [4, 6]), TensorType(.int64, [21])),
        sample(points, [1, 1], TensorType(type, [6, 5]), TensorType(.int32, [8, 2])),
        sample(boxes, [2, 3], TensorType(type, [6, 7]), TensorType(.int32, [5, 2])),
        sample(batched, [1, 1], TensorType(type, [3, 8]), TensorType(.int32, [3, 11])),
      ]
    }
  }
}

extension FunctionBuilder {
  /// Index vectors moved so that slices of the given sizes lie inside.
  package func clampedIndices(
    _ indices: Value, _ axes: IndexAttributes, _ shape: [Size], _ sizes: [Size]
  ) -> Value {
    let indices = wideIndices(indices)
    let limits = indexLimits(indices, axes, shape, sizes)
    let zero = constant(0, like: indices)
    return minimum(maximum(indices, zero), limits)
  }

  /// Indices in a type that holds the size of every axis.
  package func wideIndices(_ indices: Value) -> Value {
    indices.dataType == .uint64 ? indices : convert(indices, .int64)
  }

  /// The largest position of each index component, in the shape of the indices, which are wide.
  package func indexLimits(
    _ indices: Value, _ axes: IndexAttributes, _ shape: [Size], _ sizes: [Size]
  ) -> Value {
    let rooms = axes.startAxes.map { axis in
      dimension(shape[axis] - sizes[axis], indices.dataType)
    }
    if axes.vectorAxis == indices.rank { return broadcast(rooms[0], to: indices.shape) }
    let vector = concatenate(rooms.map { reshape($0, [1]) }, axis: 0)
    return broadcast(vector, to: indices.shape, axes: [axes.vectorAxis])
  }
}
