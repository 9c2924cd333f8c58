package import DLCKernel
import DLCTensor

/// Writes a kernel as LLVM text: `void name(ptr buffers, i64 tile, ptr scratch)`.
package struct KernelEmitter {
  let kernel: Kernel
  let text: FunctionText
  var values: [ScalarID: Operand] = [:]
  var variables: [LoopVariable: Operand] = [:]
  /// Bound variables whose value differs from lane to lane.
  private var laneBound: [LoopVariable: Operand] = [:]
  var pointers: [Memory: Operand] = [:]
  var vector: VectorContext?
  /// The microkernels that the kernel calls.
  package internal(set) var microkernels: Set<Microkernel> = []

  /// Loads whose values are known, element by element of the loop that is unrolled around them.
  var transposed: [ScalarID: Operand] = [:]

  /// Inside a vector loop: its variable (lane 0), the lanes, and how many are active when not all.
  struct VectorContext {
    var variable: LoopVariable
    var lanes: Int
    var mask: Operand?
    var remaining: Operand?
    /// Whether the variable's value in the first lane is a multiple of the lanes.
    var isAligned = false
  }

  package init(_ kernel: Kernel, _ target: Target) {
    self.kernel = kernel
    text = FunctionText(target)
  }

  /// The module that holds the kernel, and the microkernels it needs.
  package static func emit(_ kernel: Kernel, _ target: Target) -> (
    text: String, microkernels: Set<Microkernel>
  ) {
    var emitter = KernelEmitter(kernel, target)
    emitter.emitFunction()
    return (emitter.text.moduleText, emitter.microkernels)
  }

  private mutating func emitFunction() {
    let arguments = text.begin(
      kernel.name,
      [
        .pointer("buffers", "noalias nonnull readonly"), .index("tile"),
        .pointer("scratch", "noalias"),
      ])
    let tile = arguments[1]
    func shifted(_ first: Int) -> Operand {
      first == 0 ? tile : text.subtract(tile, .index(first))
    }
    var first = 0
    let sections = kernel.allSections
    for (number, section) in sections.enumerated() {
      guard number + 1 < sections.count else {
        emit(section, tile: shifted(first), arguments)
        text.ret()
        break
      }
      let (mine, others) = (text.label("section"), text.label("others"))
      let isMine = text.compare(.slt, tile, first + section.tileCount)
      text.branch(if: isMine, mine, else: others)
      text.start(mine)
      emit(section, tile: shifted(first), arguments)
      text.ret()
      text.start(others)
      first += section.tileCount
    }
    text.end()
  }

  private mutating func emit(
    _ section: Kernel.Section, tile: Operand, _ arguments: [Operand]
  ) {
    (values, variables, laneBound, pointers) = ([:], [:], [:], [:])
    let used = Set(section.body.flatMap(\.parameters))
    for index in kernel.parameters.indices where used.contains(index) {
      let slot = text.offset(arguments[0], .index(index), of: .pointer, hint: "slot")
      pointers[.parameter(index)] = text.loadPointer(from: slot, hint: "p")
    }
    for (index, offset) in kernel.localOffsets.offsets.enumerated() {
      pointers[.local(index)] = text.offset(arguments[2], .index(offset), of: .i8, hint: "l")
    }
    var rest = tile
    for (position, variable) in section.grid.enumerated().reversed() {
      if position == 0 {
        variables[variable] = rest
      } else {
        variables[variable] = text.integer(.urem, rest, variable.extent, hint: "g")
        rest = text.integer(.udiv, rest, variable.extent, hint: "q")
      }
    }
    emit(section.body)
  }

  // MARK: Indices

  /// The value of an index expression; `replace` overrides variables (for single lanes).
  mutating func index(_ e: IndexExpression, _ replace: [LoopVariable: Operand] = [:]) -> Operand {
    /// An expression raised by a multiple of d to where it is positive, and the multiple.
    func raised(_ inner: IndexExpression, _ d: Int) -> (Operand, Int) {
      let shift = max(0, (-inner.range.lowerBound + d - 1) / d)
      return (index(inner + shift * d, replace), shift)
    }
    var sum: Operand?
    for term in e.terms {
      var value: Operand
      switch term.atom {
      case .variable(let v): value = replace[v] ?? variables[v]!
      case .quotient(let inner, let d):
        let (dividend, shift) = raised(inner, d)
        value = text.integer(.udiv, dividend, d)
        if shift > 0 { value = text.integer(.sub, value, shift) }
      case .remainder(let inner, let d):
        value = text.integer(.urem, raised(inner, d).0, d)
      }
      if term.coefficient != 1 { value = text.multiply(value, term.coefficient) }
      sum = sum.map { text.add($0, value) } ?? value
    }
    guard let sum else { return .index(e.constant) }
    return e.constant == 0 ? sum : text.add(sum, e.constant)
  }

  func address(_ memory: Memory, _ index: Operand, _ type: DataType) -> Operand {
    text.offset(pointers[memory]!, index, of: type.llvmStorage)
  }

  /// The vector variable's value in one lane; lanes beyond the active ones repeat the first.
  private mutating func laneVariable(_ lane: Int, _ context: VectorContext) -> Operand {
    let base = variables[context.variable]!
    if lane == 0 { return base }
    guard let remaining = context.remaining else { return text.add(base, lane) }
    let active = text.compare(.slt, .index(lane), remaining)
    return text.add(base, text.select(active, .index(lane), .index(0)))
  }

  /// Whether an index differs from lane to lane.
  private func isVarying(_ e: IndexExpression, _ context: VectorContext) -> Bool {
    e.mentions(context.variable)
      || !laneBound.isEmpty && e.variables.contains { laneBound[$0] != nil }
  }

  /// The step from lane to lane, when it is the same everywhere.
  func stride(_ e: IndexExpression, _ context: VectorContext) -> Int? {
    if !laneBound.isEmpty && e.variables.contains(where: { laneBound[$0] != nil }) { return nil }
    return e.stride(of: context.variable)
  }

  mutating func laneIndices(_ e: IndexExpression, _ context: VectorContext) -> [Operand] {
    if let stride = stride(e, context), context.remaining == nil {
      let base = index(e)
      return (0..<context.lanes).map { lane in
        lane == 0 ? base : text.add(base, lane * stride)
      }
    }
    let bound = laneBound.filter { e.mentions($0.key) }.sorted { $0.key.id < $1.key.id }
    return (0..<context.lanes).map { lane in
      var replace = [context.variable: laneVariable(lane, context)]
      for (variable, value) in bound { replace[variable] = text.extract(value, lane) }
      return index(e, replace)
    }
  }

  // MARK: Memory

  private mutating func load(_ memory: Memory, _ e: IndexExpression, _ type: DataType) -> Operand {
    let raw = loadStored(memory, e, type)
    return scalar { $0.fromStorage(raw, type) }
  }

  private mutating func loadStored(_ memory: Memory, _ e: IndexExpression, _ type: DataType)
    -> Operand
  {
    let (storage, align) = (type.llvmStorage, type.byteCount)
    guard let context = vector, isVarying(e, context) else {
      return text.load(storage, 0, from: address(memory, index(e), type), align: align)
    }
    let lanes = context.lanes
    if stride(e, context) == 1 {
      let pointer = address(memory, index(e), type)
      if let mask = context.mask {
        return text.load(storage, lanes, from: pointer, align: align, mask: mask)
      }
      return text.load(storage, lanes, from: pointer, align: align)
    }
    if let stride = stride(e, context), (2...Self.greatestSpread).contains(stride) {
      let pointer = address(memory, index(e), type)
      return loadSpread(type, lanes, from: pointer, by: stride, remaining: context.remaining)
    }
    if let grouped = loadGrouped(memory, e, type, context) { return grouped }
    var collected = Operand.poison(storage, lanes)
    for (lane, position) in laneIndices(e, context).enumerated() {
      let one = text.load(storage, 0, from: address(memory, position, type), align: align)
      collected = text.insert(one, into: collected, lane)
    }
    return collected
  }

  private mutating func store(
    _ memory: Memory, _ e: IndexExpression, _ value: Operand, _ type: DataType
  ) {
    let align = type.byteCount
    guard let context = vector, isVarying(e, context) else {
      // Every lane holds the same value when the place does not depend on the lane.
      let one = value.lanes == 0 ? value : text.extract(value, 0)
      let stored = scalar { $0.toStorage(one, type) }
      text.store(stored, to: address(memory, index(e), type), align: align)
      return
    }
    let wide = text.splat(value, context.lanes)
    let stored = scalar { $0.toStorage(wide, type) }
    if stride(e, context) == 1 {
      let pointer = address(memory, index(e), type)
      if let mask = context.mask {
        text.store(stored, to: pointer, align: align, mask: mask)
      } else {
        text.store(stored, to: pointer, align: align)
      }
      return
    }
    // Inactive lanes repeat lane 0's place and must write lane 0's value: the last lanes first.
    for (lane, position) in laneIndices(e, context).enumerated().reversed() {
      let pointer = address(memory, position, type)
      text.store(text.extract(stored, lane), to: pointer, align: align)
    }
  }

  mutating func scalar<R>(_ body: (inout ScalarEmitter) -> R) -> R {
    var emitter = ScalarEmitter(text)
    return body(&emitter)
  }

  // MARK: Expressions

  static func literal(_ value: ScalarConstant, _ type: DataType) -> Operand {
    switch value {
    case .float(let v): .real(v, type.llvmType)
    case .integer(let v): type == .bool ? .bool(v != 0) : .integer(Int(v), type.llvmType, 0)
    }
  }

  /// An index, one value or one per lane.
  private mutating func indexOperand(_ e: IndexExpression) -> Operand {
    guard let context = vector, isVarying(e, context) else { return index(e) }
    let lanes = context.lanes
    if let stride = stride(e, context) {
      let base = text.splat(index(e), lanes)
      return text.integer(.add, base, .integers((0..<lanes).map { $0 * stride }, .i64))
    }
    var collected = Operand.poison(.i64, lanes)
    for (lane, position) in laneIndices(e, context).enumerated() {
      collected = text.insert(position, into: collected, lane)
    }
    return collected
  }

  private mutating func evaluate(_ expression: Expression) -> Operand {
    switch expression {
    case .constant(let value, let type): return Self.literal(value, type)
    case .load(let memory, let e, let type): return load(memory, e, type)
    case .index(let e, let type):
      let position = indexOperand(e)
      return scalar { $0.apply(.convert(type), .int64, [position]) }
    case .apply(let operation, let type, let ids):
      let operands = ids.map { values[$0]! }
      let lanes = operands.map(\.lanes).max() ?? 0
      let aligned = operands.map { lanes == 0 ? $0 : text.splat($0, lanes) }
      return scalar { emitter in
        let value = emitter.apply(operation, type, aligned)
        // Arithmetic on half floats rounds to their storage after every operation.
        let isHalf = type == .float16 || type == .bfloat16
        guard isHalf, value.type == .float else { return value }
        if case .convert = operation { return value }
        if case .select = operation { return value }
        return emitter.fromStorage(emitter.toStorage(value, type), type)
      }
    case .multiplyAdd(_, let ids):
      let operands = ids.map { values[$0]! }
      let lanes = operands.map(\.lanes).max() ?? 0
      let aligned = operands.map { lanes == 0 ? $0 : text.splat($0, lanes) }
      return text.multiplyAdd(aligned[0], aligned[1], aligned[2])
    case .randomBits(let e, let key, let counter):
      let position = indexOperand(e)
      return philox(position, values[key]!, values[counter]!)
    }
  }

  private mutating func philox(_ position: Operand, _ key: Operand, _ counter: Operand) -> Operand {
    let lanes = position.lanes
    func low(_ x: Operand) -> Operand { text.cast(.trunc, x, to: .i32) }
    func high(_ x: Operand) -> Operand { low(text.integer(.lshr, x, 32)) }
    func xor(_ a: Operand, _ b: Operand) -> Operand { text.integer(.xor, a, b) }
    func product(_ x: Operand, _ by: UInt32) -> Operand {
      text.integer(.mul, text.cast(.zext, x, to: .i64), Int(by))
    }
    let number = text.integer(.lshr, position, 2)
    let keys = text.splat(key, lanes)
    let counters = text.splat(counter, lanes)
    var c = [low(number), high(number), low(counters), high(counters)]
    var k = [low(keys), high(keys)]
    for _ in 0..<Philox.rounds {
      let (p0, p1) = (product(c[0], Philox.multiplier0), product(c[2], Philox.multiplier1))
      c = [xor(xor(high(p1), c[1]), k[0]), low(p1), xor(xor(high(p0), c[3]), k[1]), low(p0)]
      k = [
        text.integer(.add, k[0], Int(Int32(bitPattern: Philox.weyl0))),
        text.integer(.add, k[1], Int(Int32(bitPattern: Philox.weyl1))),
      ]
    }
    let word = text.integer(.and, position, 3)
    var result = c[3]
    for choice in [2, 1, 0] {
      result = text.select(text.compare(.eq, word, choice), c[choice], result)
    }
    return result
  }

  // MARK: Statements

  mutating func emit(_ statements: [Statement]) {
    for statement in statements {
      switch statement {
      case .define(let id, let expression): values[id] = transposed[id] ?? evaluate(expression)
      case .store(let memory, let e, let value, let type): store(memory, e, values[value]!, type)
      case .prefetch(let p):
        let start = address(p.memory, index(p.base), p.type)
        for line in 0..<p.lines {
          text.prefetch(start, ahead: p.ahead * p.type.byteCount + 64 * line)
        }
      case .loop(let loop):
        if case .vector(let unroll, let width) = loop.mode {
          emitVector(loop, unroll: unroll, width: width)
        } else {
          emitSerial(loop)
        }
      case .contract(let c): emit(c)
      case .pack(let p): emit(p)
      case .winograd(let w): emit(w)
      case .bind(let variable, let id): bind(variable, values[id]!)
      case .when(let id, let body):
        precondition(vector == nil, "conditions stand outside vector loops")
        let (then, done) = (text.label("then"), text.label("done"))
        text.branch(if: values[id]!, then, else: done)
        text.start(then)
        emit(body)
        text.branch(to: done)
        text.start(done)
      }
    }
  }

  private mutating func bind(_ variable: LoopVariable, _ value: Operand) {
    func literal(_ number: Int) -> Operand { .integer(number, .i64, value.lanes) }
    let (low, high) = (literal(0), literal(max(variable.extent - 1, 0)))
    let raised = text.select(text.compare(.slt, value, low), low, value)
    let inside = text.select(text.compare(.sgt, raised, high), high, raised)
    if value.lanes == 0 {
      variables[variable] = inside
      laneBound[variable] = nil
    } else {
      laneBound[variable] = inside
    }
  }
}
