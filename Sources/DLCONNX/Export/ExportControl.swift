import DLCGraph
import DLCTensor

/// Branches, loops, random numbers and factorisations.
extension NodeExporter {
  func control() throws(DLCError) -> [String] {
    switch node.operation.flow! {
    case .call(let arm): return try exporter.add(arm.graph, Array(operands[arm.operands])).results
    case .branch(let predicate, let then, let otherwise):
      func side(_ arm: ControlFlow.Arm) throws(DLCError) -> ONNXGraph {
        try exporter.graph(arm.name, inputs: []) { () throws(DLCError) in
          let made = try exporter.add(arm.graph, Array(operands[arm.operands])).results
          return Array(zip(made, results))
        }
      }
      return exporter.emit(
        "If", [operands[predicate]],
        ["then_branch": .graph(try side(then)), "else_branch": .graph(try side(otherwise))],
        outputs: results.count)
    case .loop(let loop):
      if loop.condition == nil && !loop.stacks.isEmpty { return try scan(loop) }
      return try self.loop(loop)
    }
  }

  /// Slices go in and out along the first axis.
  private func scan(_ loop: ControlLoop) throws(DLCError) -> [String] {
    let inputs = loop.body.graph.arguments.prefix(loop.carried + loop.stacks.count).map {
      (exporter.fresh(), $0.type)
    }
    let captured = operands[loop.body.operands]
    let body = try exporter.graph("body", inputs: inputs) { () throws(DLCError) in
      let made = try exporter.add(loop.body.graph, inputs.map(\.0) + captured).results
      return Array(zip(made, loop.body.graph.resultTypes))
    }
    let outputs = results.count - loop.carried
    let direction = loop.reverse ? 1 : 0
    return exporter.emit(
      "Scan", Array(operands[..<(loop.carried + loop.stacks.count)]),
      [
        "body": .graph(body), "num_scan_inputs": .integer(loop.stacks.count),
        "scan_input_directions": .integers(loop.stacks.map { _ in direction }),
        "scan_output_directions": .integers((0..<outputs).map { _ in direction }),
      ], outputs: results.count)
  }

  /// A loop with a condition, or without stacked inputs.
  private func loop(_ loop: ControlLoop) throws(DLCError) -> [String] {
    let carriedTypes = Array(loop.body.graph.arguments.prefix(loop.carried).map(\.type))
    func condition(_ carried: [String]) throws(DLCError) -> String {
      guard let test = loop.condition else { return exporter.scalar(1, .bool) }
      return try exporter.add(test.graph, carried + operands[test.operands]).results[0]
    }
    guard !loop.reverse || results.count == loop.carried else {
      throw refuse("a reversed loop without inputs")
    }
    let first = try condition(Array(operands[..<loop.carried]))
    var limit = ""
    if let count = loop.count, count != 0 || loop.condition == nil {
      limit = try exporter.reshape(try exporter.size(count), [])
    }
    let inputs =
      [(exporter.fresh(), TensorType(.int64)), (exporter.fresh(), TensorType(.bool))]
      + carriedTypes.map { (exporter.fresh(), $0) }
    let body = try exporter.graph("body", inputs: inputs) { () throws(DLCError) in
      let carried = inputs.dropFirst(2).map(\.0)
      let made = try exporter.add(loop.body.graph, carried + operands[loop.body.operands]).results
      let next = try condition(Array(made[..<loop.carried]))
      return [(next, TensorType(.bool))] + zip(made, loop.body.graph.resultTypes)
    }
    return exporter.emit(
      "Loop", [limit, first] + operands[..<loop.carried], ["body": .graph(body)],
      outputs: results.count)
  }

  // MARK: Random numbers

  /// Philox 4x32-10 (Salmon et al. 2011), word by word, in 64-bit integers.
  func randomBits(_ shape: [Size]) throws(DLCError) -> String {
    guard exporter.opset >= 18 else { throw refuse("random bits") }
    let mask = exporter.scalar(4_294_967_295, .int64)
    func low(_ v: String) -> String { emit("BitwiseAnd", [v, mask]) }
    func high(_ v: String) -> String {
      let wide = exporter.cast(v, .int64, .uint64)
      let shifted = emit(
        "BitShift", [wide, exporter.scalar(32, .uint64)], ["direction": .text(Array("RIGHT".utf8))])
      return exporter.cast(shifted, .uint64, .int64)
    }
    func xor(_ a: String, _ b: String) -> String { emit("BitwiseXor", [a, b]) }
    func word(_ v: UInt32) -> String {
      exporter.constant(Tensor(.int64, [], truncating: [Int64(v)]))
    }
    let count = shape.reduce(Size(1)) { $0 * $1 }
    // Four words a block.
    let blocks = (count + 3) / 4
    let number = try iota(TensorType(.int64, [blocks]), 0)
    let key = exporter.cast(operands[0], .uint64, .int64)
    let counter = exporter.cast(operands[1], .uint64, .int64)
    var c = [low(number), high(number), low(counter), high(counter)]
    var (k0, k1) = (low(key), high(key))
    for _ in 0..<Philox.rounds {
      let p0 = emit("Mul", [c[0], word(Philox.multiplier0)])
      let p1 = emit("Mul", [c[2], word(Philox.multiplier1)])
      c = [xor(xor(high(p1), c[1]), k0), low(p1), xor(xor(high(p0), c[3]), k1), low(p0)]
      k0 = low(emit("Add", [k0, word(Philox.weyl0)]))
      k1 = low(emit("Add", [k1, word(Philox.weyl1)]))
    }
    var columns: [String] = []
    for part in c {
      columns.append(
        try exporter.reshape(emit("Expand", [part, try exporter.shape([blocks])]), [blocks, 1]))
    }
    let rows = emit("Concat", columns, ["axis": .integer(1)])
    let words = try slice(try exporter.reshape(rows, [blocks * 4]), [0], [count], [1])
    return exporter.cast(try exporter.reshape(words, shape), .int64, .uint32)
  }

  // MARK: Matrices

  private func row(_ matrix: String, _ index: String, axis: Int) -> String {
    emit("Gather", [matrix, index], ["axis": .integer(axis)])
  }

  /// A loop over the columns of matrices [batch, n, n], which carries one value.
  private func columns(
    _ count: String, _ start: String, _ type: TensorType,
    _ body: (_ index: String, _ carried: String) throws(DLCError) -> String
  ) throws(DLCError) -> String {
    let inputs = [
      (exporter.fresh(), TensorType(.int64)), (exporter.fresh(), TensorType(.bool)),
      (exporter.fresh(), type),
    ]
    let graph = try exporter.graph("column", inputs: inputs) { () throws(DLCError) in
      [(inputs[1].0, TensorType(.bool)), (try body(inputs[0].0, inputs[2].0), type)]
    }
    return exporter.emit(
      "Loop", [count, exporter.scalar(1, .bool), start], ["body": .graph(graph)], outputs: 1)[0]
  }

  private func number(_ v: Double) -> String { exporter.scalar(v, type) }

  /// Column by column: l_j = (a_j - L l_jT) / sqrt of its own element, below the diagonal.
  func cholesky() throws(DLCError) -> String {
    let shape = types[0].shape
    let n = shape[shape.count - 1]
    let batch = shape.dropLast(2).reduce(Size(1)) { $0 * $1 }
    let wide = TensorType(type, [batch, n, n])
    let a = try exporter.reshape(x, wide.shape)
    let symmetric = emit(
      "Mul", [emit("Add", [a, exporter.transpose(a, [0, 2, 1])]), number(0.5)])
    let zeros = emit("Mul", [a, number(0)])
    let places = try iota(TensorType(.int64, [n]), 0)
    let count = try exporter.reshape(try exporter.size(n), [])
    let factor = try columns(count, zeros, wide) { (j, l) throws(DLCError) in
      // Row j of L, and what column j is less what the columns before it give.
      let mine = try exporter.reshape(row(l, j, axis: 1), [batch, n, 1])
      let rest = emit(
        "Sub",
        [
          try exporter.reshape(row(symmetric, j, axis: 2), [batch, n, 1]),
          emit("MatMul", [l, mine]),
        ])
      let pivot = emit("Sqrt", [try exporter.reshape(row(rest, j, axis: 1), [batch, 1, 1])])
      let isBelow = try exporter.reshape(emit("GreaterOrEqual", [places, j]), [1, n, 1])
      let column = emit("Where", [isBelow, emit("Div", [rest, pivot]), number(0)])
      let isHere = try exporter.reshape(emit("Equal", [places, j]), [1, 1, n])
      return emit("Where", [isHere, column, l])
    }
    return try exporter.reshape(factor, shape)
  }

  /// Row by row, from the first for lower triangles and from the last for upper ones.
  func triangularSolve(_ o: TriangularSolve) throws(DLCError) -> String {
    let (shape, right) = (types[0].shape, types[1].shape)
    let n = shape[shape.count - 1]
    let batch = shape.dropLast(2).reduce(Size(1)) { $0 * $1 }
    let width = right[right.count - 1]
    let wide = TensorType(type, [batch, n, width])
    var a = try exporter.reshape(x, [batch, n, n])
    let places = try iota(TensorType(.int64, [n]), 0)
    let rows = try exporter.reshape(places, [n, 1])
    let inside = emit(o.lower ? "Greater" : "Less", [rows, places])
    let diagonal = emit("Equal", [rows, places])
    let strict = emit("Where", [inside, a, number(0)])
    let own = o.unitDiagonal ? number(1) : a
    a = emit("Where", [diagonal, own, strict])
    if o.transpose { a = exporter.transpose(a, [0, 2, 1]) }
    let b = try exporter.reshape(operands[1], wide.shape)
    let isForward = o.lower != o.transpose
    let count = try exporter.reshape(try exporter.size(n), [])
    let last = try exporter.reshape(try exporter.size(n - 1), [])
    let start = emit("Mul", [b, number(0)])
    let solved = try columns(count, start, wide) { (step, x) throws(DLCError) in
      let i = isForward ? step : emit("Sub", [last, step])
      let coefficients = try exporter.reshape(row(a, i, axis: 1), [batch, 1, n])
      let rest = emit(
        "Sub",
        [
          try exporter.reshape(row(b, i, axis: 1), [batch, 1, width]),
          emit("MatMul", [coefficients, x]),
        ])
      let pivot = try exporter.reshape(row(coefficients, i, axis: 2), [batch, 1, 1])
      let isHere = try exporter.reshape(emit("Equal", [places, i]), [1, n, 1])
      return emit("Where", [isHere, emit("Div", [rest, pivot]), x])
    }
    return try exporter.reshape(solved, right)
  }

  /// Rows change places so that the largest element of a column comes to the diagonal.
  func lu() throws(DLCError) -> [String] {
    let shape = types[0].shape
    let n = shape[shape.count - 1]
    let batch = shape.dropLast(2).reduce(Size(1)) { $0 * $1 }
    guard shape[shape.count - 2] == n else {
      throw refuse("the factors of a matrix that is not square")
    }
    // The matrix, the permutation and the pivots are carried side by side, as float64.
    let state = TensorType(.float64, [batch, n, n + 2])
    let places = try iota(TensorType(.int64, [n]), 0)
    let index = exporter.cast(places, .int64, .float64)
    let column = emit(
      "Expand", [try exporter.reshape(index, [1, n, 1]), try exporter.shape([batch, n, 1])])
    let start = emit(
      "Concat",
      [exporter.cast(try exporter.reshape(x, [batch, n, n]), type, .float64), column, column],
      ["axis": .integer(2)])
    let count = try exporter.reshape(try exporter.size(n), [])
    let made = try columns(count, start, state) { (j, s) throws(DLCError) in
      try luStep(j, s, places, batch, n)
    }
    func part(_ from: Size, _ to: Size) throws(DLCError) -> String {
      try slice(made, [0, 0, from], [batch, n, to], [1, 1, 1])
    }
    let factors = exporter.cast(try exporter.reshape(try part(0, n), shape), .float64, type)
    let permutation = exporter.cast(
      try exporter.reshape(try part(n, n + 1), results[2].shape), .float64, results[2].dataType)
    let pivots = exporter.cast(
      try exporter.reshape(try part(n + 1, n + 2), results[1].shape), .float64, results[1].dataType)
    return [factors, pivots, permutation]
  }

  private func luStep(_ j: String, _ s: String, _ places: String, _ batch: Size, _ n: Size)
    throws(DLCError) -> String
  {
    func wide(_ v: Double) -> String { exporter.scalar(v, .float64) }
    let column = try exporter.reshape(row(s, j, axis: 2), [batch, n])
    let isAfter = emit("GreaterOrEqual", [places, j])
    let size = emit("Where", [isAfter, emit("Abs", [column]), wide(-1)])
    let pivot = emit("ArgMax", [size], ["axis": .integer(1), "keepdims": .integer(1)])
    // Rows j and pivot change places.
    let isHere = emit("Equal", [places, j])
    let isPivot = emit("Equal", [places, pivot])
    let order = emit("Where", [isHere, pivot, emit("Where", [isPivot, j, places])])
    let pick = emit(
      "Expand",
      [try exporter.reshape(order, [batch, n, 1]), try exporter.shape([batch, n, n + 2])])
    let swapped = emit("GatherElements", [s, pick], ["axis": .integer(1)])
    // The pivot's number is noted; it is not one of what changes places.
    let columns = try iota(TensorType(.int64, [n + 2]), 0)
    let isLast = emit("Equal", [columns, try exporter.size(n + 1)])
    let kept = emit("Where", [isLast, s, swapped])
    let hereRow = try exporter.reshape(isHere, [1, n, 1])
    let isNote = emit("And", [hereRow, isLast])
    let pivotNumber = try exporter.reshape(exporter.cast(pivot, .int64, .float64), [batch, 1, 1])
    let noted = emit("Where", [isNote, pivotNumber, kept])
    // Elimination below the diagonal, in the columns after it.
    let top = try exporter.reshape(row(noted, j, axis: 1), [batch, 1, n + 2])
    let own = try exporter.reshape(row(top, j, axis: 2), [batch, 1, 1])
    let isBelow = try exporter.reshape(emit("Greater", [places, j]), [1, n, 1])
    let ratio = emit("Div", [try exporter.reshape(row(noted, j, axis: 2), [batch, n, 1]), own])
    let inMatrix = emit("Less", [columns, try exporter.size(n)])
    let isRight = emit("And", [emit("Greater", [columns, j]), inMatrix])
    let reduced = emit("Sub", [noted, emit("Mul", [ratio, top])])
    let isColumn = emit("Equal", [columns, j])
    let below = emit("Where", [isColumn, ratio, emit("Where", [isRight, reduced, noted])])
    return emit("Where", [isBelow, below, noted])
  }
}
