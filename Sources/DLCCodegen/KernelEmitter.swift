package import DLCKernel
import DLCTensor

/// Writes a kernel as LLVM text: `void name(ptr buffers, i64 tile, ptr scratch)`.
package struct KernelEmitter {
  let kernel: Kernel
  let text: FunctionText
  var values: [ScalarID: Operand] = [:]
  var variables: [LoopVariable: String] = [:]
  /// Bound variables whose value differs from lane to lane.
  private var laneBound: [LoopVariable: Operand] = [:]
  var pointers: [Memory: String] = [:]
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
    var remaining: String?
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
    text.raw(
      "define void @\(kernel.name)(ptr noalias nonnull readonly %buffers, i64 %tile, ptr noalias %scratch) #0 {"
    )
    text.startBlock("entry")
    var first = 0
    let sections = kernel.allSections
    for (number, section) in sections.enumerated() {
      guard number + 1 < sections.count else {
        emit(section, tile: shifted(first))
        text.emit("ret void")
        break
      }
      let (mine, others) = (text.label("section"), text.label("others"))
      let isMine = text.make("i1", 0, "icmp slt i64 %tile, \(first + section.tileCount)").name
      text.emit("br i1 \(isMine), label %\(mine), label %\(others)")
      text.startBlock(mine)
      emit(section, tile: shifted(first))
      text.emit("ret void")
      text.startBlock(others)
      first += section.tileCount
    }
    text.raw("}")
    text.raw("!0 = !{}")
  }

  private func shifted(_ first: Int) -> String {
    first == 0 ? "%tile" : text.make("i64", 0, "sub nsw i64 %tile, \(first)").name
  }

  private mutating func emit(_ section: Kernel.Section, tile: String) {
    (values, variables, laneBound, pointers) = ([:], [:], [:], [:])
    let used = Set(section.body.flatMap(\.parameters))
    for index in kernel.parameters.indices where used.contains(index) {
      let slot = text.fresh("slot")
      let pointer = text.fresh("p")
      text.emit("\(slot) = getelementptr inbounds ptr, ptr %buffers, i64 \(index)")
      text.emit("\(pointer) = load ptr, ptr \(slot), align 8, !invariant.load !0")
      pointers[.parameter(index)] = pointer
    }
    for (index, offset) in kernel.localOffsets.offsets.enumerated() {
      let pointer = text.fresh("l")
      text.emit("\(pointer) = getelementptr inbounds i8, ptr %scratch, i64 \(offset)")
      pointers[.local(index)] = pointer
    }
    var rest = tile
    for (position, variable) in section.grid.enumerated().reversed() {
      if position == 0 {
        variables[variable] = rest
      } else {
        let (digit, quotient) = (text.fresh("g"), text.fresh("q"))
        text.emit("\(digit) = urem i64 \(rest), \(variable.extent)")
        text.emit("\(quotient) = udiv i64 \(rest), \(variable.extent)")
        variables[variable] = digit
        rest = quotient
      }
    }
    emit(section.body)
  }

  // MARK: Indices

  /// The value of an index expression, as an i64; `replace` overrides variables (for single lanes).
  mutating func index(_ e: IndexExpression, _ replace: [LoopVariable: String] = [:])
    -> String
  {
    var sum: String?
    for term in e.terms {
      var value: String
      switch term.atom {
      case .variable(let v): value = replace[v] ?? variables[v]!
      case .quotient(let inner, let d):
        let shift = max(0, (-inner.range.lowerBound + d - 1) / d)
        let raised = index(inner + shift * d, replace)
        value = text.make("i64", 0, "udiv i64 \(raised), \(d)").name
        if shift > 0 { value = text.make("i64", 0, "sub i64 \(value), \(shift)").name }
      case .remainder(let inner, let d):
        let shift = max(0, (-inner.range.lowerBound + d - 1) / d)
        let raised = index(inner + shift * d, replace)
        value = text.make("i64", 0, "urem i64 \(raised), \(d)").name
      }
      if term.coefficient != 1 {
        value = text.make("i64", 0, "mul nsw i64 \(value), \(term.coefficient)").name
      }
      sum = sum.map { text.make("i64", 0, "add nsw i64 \($0), \(value)").name } ?? value
    }
    guard let sum else { return "\(e.constant)" }
    return e.constant == 0 ? sum : text.make("i64", 0, "add nsw i64 \(sum), \(e.constant)").name
  }

  mutating func address(_ memory: Memory, _ index: String, _ type: DataType) -> String {
    text.make(
      "ptr", 0, "getelementptr inbounds \(type.llvmStorage), ptr \(pointers[memory]!), i64 \(index)"
    ).name
  }

  /// The vector variable's value in one lane; lanes beyond the active ones repeat the first.
  private mutating func laneVariable(_ lane: Int, _ context: VectorContext) -> String {
    let base = variables[context.variable]!
    if lane == 0 { return base }
    guard let remaining = context.remaining else {
      return text.make("i64", 0, "add nsw i64 \(base), \(lane)").name
    }
    let active = text.make("i1", 0, "icmp slt i64 \(lane), \(remaining)").name
    let offset = text.make("i64", 0, "select i1 \(active), i64 \(lane), i64 0").name
    return text.make("i64", 0, "add nsw i64 \(base), \(offset)").name
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

  mutating func laneIndices(_ e: IndexExpression, _ context: VectorContext) -> [String] {
    if let stride = stride(e, context), context.remaining == nil {
      let base = index(e)
      return (0..<context.lanes).map { lane in
        lane == 0 ? base : text.make("i64", 0, "add nsw i64 \(base), \(lane * stride)").name
      }
    }
    let bound = laneBound.filter { e.mentions($0.key) }
    return (0..<context.lanes).map { lane in
      var replace = [context.variable: laneVariable(lane, context)]
      for (variable, value) in bound {
        replace[variable] =
          text.make("i64", 0, "extractelement \(value.text), i64 \(lane)").name
      }
      return index(e, replace)
    }
  }

  // MARK: Memory

  private mutating func load(_ memory: Memory, _ e: IndexExpression, _ type: DataType) -> Operand {
    let storage = type.llvmStorage
    let raw: Operand
    if let context = vector, isVarying(e, context) {
      let lanes = context.lanes
      if stride(e, context) == 1 {
        let pointer = address(memory, index(e), type)
        let vectorType = "<\(lanes) x \(storage)>"
        if let mask = context.mask {
          let symbol =
            "@llvm.masked.load.v\(lanes)\(FunctionText.mangle(Operand(name: "", type: storage, lanes: 0))).p0"
          text.declare("declare \(vectorType) \(symbol)(ptr, i32, <\(lanes) x i1>, \(vectorType))")
          raw = text.make(
            storage, lanes,
            "call \(vectorType) \(symbol)(ptr \(pointer), i32 \(type.byteCount), \(mask.text), \(vectorType) zeroinitializer)"
          )
        } else {
          raw = text.make(
            storage, lanes, "load \(vectorType), ptr \(pointer), align \(type.byteCount)")
        }
      } else {
        var collected = Operand(name: "poison", type: storage, lanes: lanes)
        for (lane, position) in laneIndices(e, context).enumerated() {
          let pointer = address(memory, position, type)
          let one = text.make(
            storage, 0, "load \(storage), ptr \(pointer), align \(type.byteCount)")
          collected = text.make(
            storage, lanes, "insertelement \(collected.text), \(one.text), i64 \(lane)")
        }
        raw = collected
      }
    } else {
      let pointer = address(memory, index(e), type)
      raw = text.make(storage, 0, "load \(storage), ptr \(pointer), align \(type.byteCount)")
    }
    return scalar { $0.fromStorage(raw, type) }
  }

  private mutating func store(
    _ memory: Memory, _ e: IndexExpression, _ value: Operand, _ type: DataType
  ) {
    guard let context = vector, isVarying(e, context) else {
      // Every lane holds the same value when the place does not depend on the lane.
      let one =
        value.lanes == 0 ? value : text.make(value.type, 0, "extractelement \(value.text), i64 0")
      let stored = scalar { $0.toStorage(one, type) }
      text.emit(
        "store \(stored.text), ptr \(address(memory, index(e), type)), align \(type.byteCount)")
      return
    }
    let lanes = context.lanes
    let wide = text.splat(value, lanes)
    let stored = scalar { $0.toStorage(wide, type) }
    if stride(e, context) == 1 {
      let pointer = address(memory, index(e), type)
      if let mask = context.mask {
        let symbol = "@llvm.masked.store.\(FunctionText.mangle(stored)).p0"
        text.declare("declare void \(symbol)(\(stored.fullType), ptr, i32, <\(lanes) x i1>)")
        text.emit(
          "call void \(symbol)(\(stored.text), ptr \(pointer), i32 \(type.byteCount), \(mask.text))"
        )
      } else {
        text.emit("store \(stored.text), ptr \(pointer), align \(type.byteCount)")
      }
      return
    }
    // Inactive lanes repeat lane 0's place and must write lane 0's value: the last lanes first.
    for (lane, position) in laneIndices(e, context).enumerated().reversed() {
      let pointer = address(memory, position, type)
      let one = text.make(stored.type, 0, "extractelement \(stored.text), i64 \(lane)")
      text.emit("store \(one.text), ptr \(pointer), align \(type.byteCount)")
    }
  }

  mutating func scalar<R>(_ body: (inout ScalarEmitter) -> R) -> R {
    var emitter = ScalarEmitter(text)
    return body(&emitter)
  }

  // MARK: Expressions

  func literal(_ value: ScalarConstant, _ type: DataType) -> Operand {
    switch value {
    case .float(let v):
      Operand(name: FunctionText.floating(v, type.llvmType), type: type.llvmType, lanes: 0)
    case .integer(let v):
      Operand(
        name: type == .bool ? (v == 0 ? "false" : "true") : "\(v)", type: type.llvmType, lanes: 0)
    }
  }

  /// An index as i64, one value or one per lane.
  private mutating func indexOperand(_ e: IndexExpression) -> Operand {
    guard let context = vector, isVarying(e, context) else {
      return Operand(name: index(e), type: "i64", lanes: 0)
    }
    let lanes = context.lanes
    if let stride = stride(e, context) {
      let base = text.splat(Operand(name: index(e), type: "i64", lanes: 0), lanes)
      let steps = (0..<lanes).map { "i64 \($0 * stride)" }.joined(separator: ", ")
      return text.make("i64", lanes, "add \(base.text), <\(steps)>")
    }
    var collected = Operand(name: "poison", type: "i64", lanes: lanes)
    for (lane, position) in laneIndices(e, context).enumerated() {
      collected = text.make(
        "i64", lanes, "insertelement \(collected.text), i64 \(position), i64 \(lane)")
    }
    return collected
  }

  private mutating func evaluate(_ expression: Expression) -> Operand {
    switch expression {
    case .constant(let value, let type): return literal(value, type)
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
        guard isHalf, value.type == "float" else { return value }
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
    let narrow = Operand(name: "", type: "i32", lanes: lanes).fullType
    let wide = Operand(name: "", type: "i64", lanes: lanes).fullType
    func low(_ x: Operand) -> Operand { text.make("i32", lanes, "trunc \(x.text) to \(narrow)") }
    func high(_ x: Operand) -> Operand { low(text.integer("lshr", x, 32)) }
    func xor(_ a: Operand, _ b: Operand) -> Operand {
      text.make("i32", lanes, "xor \(a.text), \(b.name)")
    }
    func product(_ x: Operand, _ by: UInt32) -> Operand {
      text.integer("mul", text.make("i64", lanes, "zext \(x.text) to \(wide)"), Int(by))
    }
    let number = text.integer("lshr", position, 2)
    let keys = text.splat(key, lanes)
    let counters = text.splat(counter, lanes)
    var c = [low(number), high(number), low(counters), high(counters)]
    var k = [low(keys), high(keys)]
    for _ in 0..<Philox.rounds {
      let (p0, p1) = (product(c[0], Philox.multiplier0), product(c[2], Philox.multiplier1))
      c = [xor(xor(high(p1), c[1]), k[0]), low(p1), xor(xor(high(p0), c[3]), k[1]), low(p0)]
      k = [
        text.integer("add", k[0], Int(Int32(bitPattern: Philox.weyl0))),
        text.integer("add", k[1], Int(Int32(bitPattern: Philox.weyl1))),
      ]
    }
    let word = text.integer("and", position, 3)
    var result = c[3]
    for choice in [2, 1, 0] {
      let match = text.make(
        "i1", lanes, "icmp eq \(word.text), \(FunctionText.literal("\(choice)", "i64", lanes).name)"
      )
      result = text.make("i32", lanes, "select \(match.text), \(c[choice].text), \(result.text)")
    }
    return result
  }

  // MARK: Statements

  mutating func emit(_ statements: [Statement]) {
    for statement in statements {
      switch statement {
      case .define(let id, let expression): values[id] = transposed[id] ?? evaluate(expression)
      case .store(let memory, let e, let value, let type): store(memory, e, values[value]!, type)
      case .loop(let loop):
        if case .vector(let unroll, let width) = loop.mode {
          emitVector(loop, unroll: unroll, width: width)
        } else {
          emitSerial(loop)
        }
      case .contract(let c): emit(c)
      case .pack(let p): emit(p)
      case .bind(let variable, let id): bind(variable, values[id]!)
      case .when(let id, let body):
        precondition(vector == nil, "conditions stand outside vector loops")
        let (then, done) = (text.label("then"), text.label("done"))
        text.emit("br i1 \(values[id]!.name), label %\(then), label %\(done)")
        text.startBlock(then)
        emit(body)
        text.emit("br label %\(done)")
        text.startBlock(done)
      }
    }
  }

  private mutating func bind(_ variable: LoopVariable, _ value: Operand) {
    let lanes = value.lanes
    func literal(_ number: Int) -> Operand { FunctionText.literal("\(number)", "i64", lanes) }
    let (low, high) = (literal(0), literal(max(variable.extent - 1, 0)))
    let under = text.make("i1", lanes, "icmp slt \(value.text), \(low.name)")
    let raised = text.make(
      "i64", lanes, "select \(under.text), \(low.text), \(value.text)")
    let over = text.make("i1", lanes, "icmp sgt \(raised.text), \(high.name)")
    let inside = text.make("i64", lanes, "select \(over.text), \(high.text), \(raised.text)")
    if lanes == 0 {
      variables[variable] = inside.name
      laneBound[variable] = nil
    } else {
      laneBound[variable] = inside
    }
  }
}
