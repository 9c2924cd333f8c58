package import DLCKernel
package import DLCTensor

/// The innermost product: a register tile of rows times vectors, over a runtime depth. A few of
/// these, shared and cached, serve contractions of every shape.
package struct Microkernel: Hashable, Sendable {
  package var types: ContractTypes
  package var rows: Int
  package var vectors: Int
  /// The last vector of C is partly outside.
  package var isMasked: Bool
  /// How A lies in memory.
  package var layout: Layout
  /// What becomes of the sums; nil: they are stored in C.
  package var finish: FinishProgram?

  package enum Layout: String, Hashable, Sendable, CaseIterable {
    /// Neighbours along the depth are neighbours.
    case rows
    /// Both rows and steps of the depth stand apart.
    case strided
    /// The rows of a step of the depth are neighbours, and steps follow one another.
    case strips
  }

  package init(
    types: ContractTypes, rows: Int, vectors: Int, isMasked: Bool, layout: Layout,
    finish: FinishProgram? = nil
  ) {
    self.finish = finish
    self.types = types
    self.rows = rows
    self.vectors = vectors
    self.isMasked = isMasked
    self.layout = layout
  }

  package func name(_ target: Target) -> String {
    let end = finish.map { "_\(NameHash.of($0.text))" } ?? ""
    return
      "dlc_\(typeName)_product\(layout == .rows ? "" : "_\(layout)")\(isMasked ? "_masked" : "")_\(rows)x\(vectors)\(end)__\(target.isa)"
  }

  private var typeName: String {
    types.isUniform ? "\(types.c)" : "\(types.a)_\(types.b)_\(types.c)"
  }

  private static let products: [FunctionText.Parameter] = [
    .pointer("a", "noalias nonnull readonly"), .index("ars"), .index("aks"),
    .pointer("b", "noalias nonnull readonly"), .index("bks"),
    .pointer("c", "noalias nonnull"), .index("crs"),
    .index("depth"), .index("accumulate"), .index("columns"),
  ]

  /// Those of a finish are places, and the distances between rows; one of them may be written where another is read.
  private var parameters: [FunctionText.Parameter] {
    Self.products
      + (finish?.operands ?? []).enumerated().flatMap { number, operand in
        [.pointer("m\(number)", "nonnull"), .index("m\(number)rs")]
          + (operand.form == .linedElement
            ? [.pointer("m\(number)next", ""), .index("m\(number)line")] : [])
      }
  }

  /// Says in another module that this one has the function.
  func declare(in text: FunctionText) {
    text.declareHidden(name(text.target), parameters)
  }

  /// C (+)= A B with runtime strides: (a, row stride, depth stride, b, depth stride, c, row stride,
  /// depth, accumulate, columns), and for each operand of a finish (place, row stride), with lines (place of the next line less that of as many
  /// rows before, rows of this line) too. With a finish C is only read.
  package func emit(_ target: Target) -> String {
    let text = FunctionText(target)
    let arguments = text.begin(name(target), parameters, isHidden: true)
    let writer = MicrokernelWriter(self, text, arguments)
    writer.prefetch()
    writer.store(writer.sums())
    text.ret()
    text.end()
    return text.moduleText
  }
}

/// The body of a microkernel.
private struct MicrokernelWriter {
  private let kernel: Microkernel
  private let text: FunctionText
  private let type: DataType
  private let lanes: Int
  // The arguments; of A and C where each row begins.
  private let aRows: [Operand]
  private let aRowStride: Operand
  private let aDepthStride: Operand
  private let b: Operand
  private let bDepthStride: Operand
  private let cRows: [Operand]
  private let depth: Operand
  private let accumulate: Operand
  /// The lanes of the last vector that lie inside.
  private let mask: Operand?
  /// For each operand of a finish the places of its rows: one where all rows have the same.
  private var operandRows: [[Operand]] = []

  init(_ kernel: Microkernel, _ text: FunctionText, _ arguments: [Operand]) {
    self.kernel = kernel
    self.text = text
    type = kernel.types.c
    lanes = text.target.vectorBytes / kernel.types.c.byteCount
    func rows(_ first: Operand, _ stride: Operand, _ type: ElementType) -> [Operand] {
      var rows = [first]
      while rows.count < kernel.rows {
        rows.append(text.offset(rows[rows.count - 1], stride, of: type))
      }
      return rows
    }
    // In strips the strides are known.
    let (aStride, aStep): (Operand, Operand) =
      kernel.layout == .strips
      ? (.index(1), .index(kernel.rows)) : (arguments[1], arguments[2])
    aRows = rows(arguments[0], aStride, kernel.types.a.llvmStorage)
    cRows = rows(arguments[5], arguments[6], kernel.types.c.llvmType)
    (aRowStride, aDepthStride) = (aStride, aStep)
    (b, bDepthStride) = (arguments[3], arguments[4])
    (depth, accumulate) = (arguments[7], arguments[8])
    mask =
      kernel.isMasked
      ? text.mask(
        lanes, before: text.integer(.sub, arguments[9], (kernel.vectors - 1) * lanes)) : nil
    var rest = arguments.dropFirst(10)
    for operand in kernel.finish?.operands ?? [] {
      let (first, stride) = (rest.removeFirst(), rest.removeFirst())
      let type = operand.type.llvmStorage
      switch operand.form {
      case .scalar, .column: operandRows.append([first])
      case .row, .element: operandRows.append(rows(first, stride, type))
      case .linedElement:
        let mine = rows(first, stride, type)
        let next = rows(rest.removeFirst(), stride, type)
        let count = rest.removeFirst()
        operandRows.append(
          mine.indices.map { row in
            row == 0
              ? mine[0]
              : text.select(text.compare(.slt, .index(row), count), mine[row], next[row])
          })
      }
    }
  }

  /// Asks for what the finish reads, which has the whole product to come, and for places in lines, which are worked out
  /// before the product then.
  func prefetch() {
    let stored = Set((kernel.finish?.stores ?? []).map(\.operand))
    for (number, operand) in (kernel.finish?.operands ?? []).enumerated()
    where operand.form == .linedElement || operand.form == .element && !stored.contains(number) {
      let bytes = kernel.vectors * lanes * operand.type.byteCount
      for row in operandRows[number] {
        for line in stride(from: 0, to: bytes, by: 64) { text.prefetch(row, ahead: line) }
      }
    }
  }

  /// How many steps of the depth the loop takes at a time. A step of a large tile keeps the arithmetic units busy by
  /// itself, and from several LLVM's scheduler would load more ahead than there are registers; nor are there enough for
  /// the addresses of many rows, or of rows whose steps lie apart.
  private var steps: Int {
    let sums = kernel.rows * kernel.vectors
    if kernel.layout == .strided || kernel.rows > 6 || kernel.isMasked && kernel.rows > 4 {
      return 1
    }
    if kernel.rows > 4 && type.byteCount == 8 { return sums > 8 ? 1 : 2 }
    if text.target.registerCount < 32 { return text.target.vectorBytes < 32 && sums > 8 ? 1 : 4 }
    return [4, 2].first { $0 * sums <= 24 } ?? 1
  }

  /// Where steps of the depth have come to.
  private struct Walk {
    var sums: [Operand]
    /// How far the rows of A are walked; of many rows the place in every third of them.
    var along: [Operand]
    /// How far the columns of B are walked.
    var down: Operand
    var values: [Operand] { sums + along + [down] }
  }

  private func walk(_ values: [Operand]) -> Walk {
    let count = kernel.rows * kernel.vectors
    return Walk(
      sums: Array(values[..<count]), along: Array(values[count..<values.count - 1]),
      down: values[values.count - 1])
  }

  /// More rows than there are registers for their places: each third one has one, and the next two are at one and two
  /// distances from it, which addresses take.
  private var hasManyRows: Bool { kernel.rows > 8 && kernel.layout != .strips }

  /// The product over the whole depth: so many steps at a time, then the rest.
  func sums() -> [Operand] {
    let zero = Operand.zero(type.llvmType, lanes)
    let sums = [Operand](repeating: zero, count: kernel.rows * kernel.vectors)
    let along =
      hasManyRows
      ? stride(from: 0, to: kernel.rows, by: 3).map { aRows[$0] } : [Operand.index(0)]
    let start = sums + along + [.index(0)]
    func loop(from: Operand, to: Operand, by steps: Int, _ start: [Operand]) -> [Operand] {
      text.loop(from: from, to: to, step: steps, carried: start) { _, phis in
        (0..<steps).reduce(walk(phis)) { walk, _ in step(walk) }.values
      }
    }
    let steps = steps
    guard steps > 1 else { return walk(loop(from: .index(0), to: depth, by: 1, start)).sums }
    let rest = text.integer(.and, depth, steps - 1)
    let whole = text.integer(.sub, depth, rest)
    let most = loop(from: .index(0), to: whole, by: steps, start)
    return walk(loop(from: whole, to: depth, by: 1, most)).sums
  }

  private func step(_ walk: Walk) -> Walk {
    let (a, b) = (kernel.types.a, kernel.types.b)
    let row = text.offset(self.b, walk.down, of: b.llvmStorage)
    let columns = (0..<kernel.vectors).map { v -> Operand in
      let at = text.offset(row, .index(v * lanes), of: b.llvmStorage)
      return widened(text.load(b.llvmStorage, lanes, from: at, align: b.byteCount), b)
    }
    var next = walk
    for row in 0..<kernel.rows {
      let at =
        hasManyRows
        ? text.offset(
          walk.along[row / 3], text.multiply(aRowStride, row % 3), of: a.llvmStorage)
        : text.offset(aRows[row], walk.along[0], of: a.llvmStorage)
      let one = widened(text.load(a.llvmStorage, 0, from: at, align: a.byteCount), a)
      let all = text.splat(one, lanes)
      for v in 0..<kernel.vectors {
        let place = row * kernel.vectors + v
        next.sums[place] = text.multiplyAdd(all, columns[v], next.sums[place])
      }
    }
    let ahead = kernel.layout == .rows ? Operand.index(1) : aDepthStride
    next.along = walk.along.map {
      hasManyRows ? text.offset($0, ahead, of: a.llvmStorage) : text.add($0, ahead)
    }
    next.down = text.add(walk.down, bDepthStride)
    return next
  }

  /// A factor, as it lies in memory, in the sums' type.
  private func widened(_ value: Operand, _ from: DataType) -> Operand {
    switch from {
    case type: return value
    case .float16: return widened(text.cast(.fpext, value, to: .float), .float32)
    case .bfloat16:
      // The upper half of a float32.
      let bits = text.integer(.shl, text.cast(.zext, value, to: .i32), 16)
      return widened(text.cast(.bitcast, bits, to: .float), .float32)
    case .float32: return text.cast(.fpext, value, to: type.llvmType)
    default:
      let (signed, unsigned): (FunctionText.Cast, FunctionText.Cast) =
        type.isFloat ? (.sitofp, .uitofp) : (.sext, .zext)
      return text.cast(from.isSigned ? signed : unsigned, value, to: type.llvmType)
    }
  }

  /// Writes the sums, added to C where parts of the depth came before.
  func store(_ sums: [Operand]) {
    let (add, write) = (text.label("add"), text.label("write"))
    let more = text.compare(.ne, accumulate, 0)
    let before = text.block
    text.branch(if: more, add, else: write)
    text.start(add)
    let added = sums.enumerated().map { number, sum in
      let at = place(number)
      let old =
        edge(number).map {
          text.load(sum.type, lanes, from: at, align: type.byteCount, mask: $0)
        } ?? text.load(sum.type, lanes, from: at, align: type.byteCount)
      return text.sum(old, sum)
    }
    let after = text.block
    text.branch(to: write)
    text.start(write)
    let finals = zip(sums, added).map { text.phi([($0, before), ($1, after)]) }
    if let finish = kernel.finish {
      for (number, value) in finals.enumerated() { apply(finish, number, value) }
      return
    }
    for (number, value) in finals.enumerated() {
      let at = place(number)
      if let mask = edge(number) {
        text.store(value, to: at, align: type.byteCount, mask: mask)
      } else {
        text.store(value, to: at, align: type.byteCount)
      }
    }
  }

  /// Does what follows for a vector of sums.
  private func apply(_ finish: FinishProgram, _ number: Int, _ sum: Operand) {
    let (row, v) = (number / kernel.vectors, number % kernel.vectors)
    let mask = edge(number)
    var scalars = ScalarEmitter(text)
    func place(_ operand: Int) -> Operand {
      let rows = operandRows[operand]
      let form = finish.operands[operand].form
      return text.offset(
        rows.count == 1 ? rows[0] : rows[row],
        .index(form.isWide ? v * lanes : 0),
        of: finish.operands[operand].type.llvmStorage)
    }
    var values = [sum]
    for step in finish.steps {
      switch step {
      case .constant(let constant, let type): values.append(KernelEmitter.literal(constant, type))
      case .load(let operand):
        let (type, isWide) = (
          finish.operands[operand].type, finish.operands[operand].form.isWide
        )
        let (storage, at) = (type.llvmStorage, place(operand))
        let raw =
          if isWide, let mask {
            text.load(storage, lanes, from: at, align: type.byteCount, mask: mask)
          } else {
            text.load(storage, isWide ? lanes : 0, from: at, align: type.byteCount)
          }
        values.append(scalars.fromStorage(raw, type))
      case .apply(let operation, let type, let operands):
        let wide = operands.map { text.splat(values[$0], lanes) }
        values.append(scalars.apply(operation, type, wide))
      }
    }
    for store in finish.stores {
      let type = finish.operands[store.operand].type
      let stored = scalars.toStorage(text.splat(values[store.value], lanes), type)
      if let mask {
        text.store(stored, to: place(store.operand), align: type.byteCount, mask: mask)
      } else {
        text.store(stored, to: place(store.operand), align: type.byteCount)
      }
    }
  }

  /// Where the vector with a number lies in C.
  private func place(_ number: Int) -> Operand {
    let (row, v) = (number / kernel.vectors, number % kernel.vectors)
    return text.offset(cRows[row], .index(v * lanes), of: type.llvmType)
  }

  /// The mask of a vector that is partly outside.
  private func edge(_ number: Int) -> Operand? {
    number % kernel.vectors == kernel.vectors - 1 ? mask : nil
  }
}
