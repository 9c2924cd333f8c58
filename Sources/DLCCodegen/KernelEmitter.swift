package import DLCKernel
import DLCTensor

/// Writes a kernel as LLVM text: `void name(ptr buffers, i64 tile, ptr scratch)`.
package struct KernelEmitter {
  let kernel: Kernel
  private let text: FunctionText
  private var values: [ScalarID: Operand] = [:]
  private var variables: [LoopVariable: String] = [:]
  /// Bound variables whose value differs from lane to lane.
  private var laneBound: [LoopVariable: Operand] = [:]
  private var pointers: [Memory: String] = [:]
  private var vector: VectorContext?
  /// The microkernels that the kernel calls.
  package private(set) var microkernels: Set<Microkernel> = []

  /// Inside a vector loop: its variable (lane 0), the lanes, and how many are active when not all.
  private struct VectorContext {
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
  private mutating func index(_ e: IndexExpression, _ replace: [LoopVariable: String] = [:])
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

  private mutating func address(_ memory: Memory, _ index: String, _ type: DataType) -> String {
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
  private func stride(_ e: IndexExpression, _ context: VectorContext) -> Int? {
    if !laneBound.isEmpty && e.variables.contains(where: { laneBound[$0] != nil }) { return nil }
    return e.stride(of: context.variable)
  }

  private mutating func laneIndices(_ e: IndexExpression, _ context: VectorContext) -> [String] {
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

  private mutating func scalar<R>(_ body: (inout ScalarEmitter) -> R) -> R {
    var emitter = ScalarEmitter(text)
    return body(&emitter)
  }

  // MARK: Expressions

  private func literal(_ value: ScalarConstant, _ type: DataType) -> Operand {
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

  private mutating func emit(_ statements: [Statement]) {
    for statement in statements {
      switch statement {
      case .define(let id, let expression): values[id] = evaluate(expression)
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

  private mutating func bounds(_ extent: BlockExtent) -> (begin: String, end: String) {
    guard let block = extent.index, extent.blockCount > 1 else { return ("0", "\(extent.total)") }
    let begin = text.make("i64", 0, "mul nsw i64 \(variables[block]!), \(extent.size)").name
    let next = text.make("i64", 0, "add nsw i64 \(begin), \(extent.size)").name
    if extent.total % extent.size == 0 { return (begin, next) }
    let inside = text.make("i1", 0, "icmp slt i64 \(next), \(extent.total)").name
    let end = text.make("i64", 0, "select i1 \(inside), i64 \(next), i64 \(extent.total)").name
    return (begin, end)
  }

  private func initial(_ a: Accumulator, _ lanes: Int) -> Operand {
    let scalar = literal(a.initial, a.type)
    return FunctionText.literal(scalar.name, scalar.type, lanes)
  }

  private mutating func emitSerial(_ loop: Loop) {
    let lanes = vector?.lanes ?? 0
    let start = loop.accumulators.map { initial($0, lanes) }
    if loop.extent.index == nil, loop.extent.total <= 4 {
      var carried = start
      for iteration in 0..<loop.extent.total {
        variables[loop.variable] = "\(iteration)"
        carried = emitBody(loop, carried, lanes)
      }
      for (a, value) in zip(loop.accumulators, carried) { values[a.result] = value }
      return
    }
    let (begin, end) = bounds(loop.extent)
    let results = counted(from: begin, to: end, carried: start) { e, i, phis in
      e.variables[loop.variable] = i
      return e.emitBody(loop, phis, lanes)
    }
    for (a, value) in zip(loop.accumulators, results) { values[a.result] = value }
  }

  /// A loop whose body writes through this emitter.
  private mutating func counted(
    from begin: String, to end: String, step: Int = 1, carried: [Operand] = [],
    _ body: (inout KernelEmitter, String, [Operand]) -> [Operand]
  ) -> [Operand] {
    text.loop(from: begin, to: end, step: step, carried: carried) { i, phis in body(&self, i, phis)
    }
  }

  /// One iteration: binds the accumulators, emits the body, and gives their next values.
  private mutating func emitBody(_ loop: Loop, _ carried: [Operand], _ lanes: Int) -> [Operand] {
    for (a, value) in zip(loop.accumulators, carried) { values[a.current] = value }
    emit(loop.body)
    return loop.accumulators.map { a in
      let next = values[a.next]!
      return lanes == 0 ? next : text.splat(next, lanes)
    }
  }

  private mutating func combine(_ a: Accumulator, _ x: Operand, _ y: Operand) -> Operand {
    let operation: ScalarOperation =
      switch a.combiner! {
      case .sum: .binary(.add)
      case .product: .binary(.multiply)
      case .maximum: .binary(.maximum)
      case .minimum: .binary(.minimum)
      case .and: .binary(.and)
      case .or: .binary(.or)
      }
    return scalar { $0.apply(operation, a.type, [x, y]) }
  }

  private mutating func emitVector(_ loop: Loop, unroll: Int, width: Int) {
    precondition(vector == nil, "vector loops do not nest")
    let lanes = text.target.lanes * width
    let (begin, end) = bounds(loop.extent)
    let step = lanes * unroll
    let start = loop.accumulators.flatMap { a in
      [Operand](repeating: initial(a, lanes), count: unroll)
    }
    let isWhole = loop.extent.index == nil || loop.extent.blockCount == 1
    let fixed = isWhole ? loop.extent.total : nil

    // Whole groups of vectors.
    var partial = start
    var position = begin
    if fixed.map({ $0 >= step }) ?? true {
      let limit: String
      if let fixed {
        limit = "\(fixed / step * step)"
      } else {
        let length = text.make("i64", 0, "sub nsw i64 \(end), \(begin)").name
        let rest = text.make("i64", 0, "urem i64 \(length), \(step)").name
        limit = text.make("i64", 0, "sub nsw i64 \(end), \(rest)").name
      }
      partial = counted(from: begin, to: limit, step: step, carried: start) { e, i, phis in
        e.vector = VectorContext(variable: loop.variable, lanes: lanes, mask: nil, remaining: nil)
        var next = phis
        for u in 0..<unroll {
          e.variables[loop.variable] =
            u == 0 ? i : e.text.make("i64", 0, "add nsw i64 \(i), \(u * lanes)").name
          let carried = loop.accumulators.indices.map { phis[$0 * unroll + u] }
          for (index, value) in e.emitBody(loop, carried, lanes).enumerated() {
            next[index * unroll + u] = value
          }
        }
        e.vector = nil
        return next
      }
      position = limit
    }
    var folded: [Operand] = loop.accumulators.enumerated().map { index, a in
      var parts = Array(partial[index * unroll..<(index + 1) * unroll])
      while parts.count > 1 {
        parts = Swift.stride(from: 0, to: parts.count, by: 2).map {
          $0 + 1 < parts.count ? combine(a, parts[$0], parts[$0 + 1]) : parts[$0]
        }
      }
      return parts[0]
    }
    // The rest, one vector at a time under a mask.
    if fixed.map({ $0 % step != 0 }) ?? true {
      folded = counted(from: position, to: end, step: lanes, carried: folded) { e, i, phis in
        let remaining = e.text.make("i64", 0, "sub nsw i64 \(end), \(i)").name
        let count = e.text.make("i32", 0, "trunc i64 \(remaining) to i32")
        let limit = e.text.splat(count, lanes)
        let numbers = (0..<lanes).map { "i32 \($0)" }.joined(separator: ", ")
        let mask = e.text.make("i1", lanes, "icmp slt <\(lanes) x i32> <\(numbers)>, \(limit.name)")
        e.vector = VectorContext(
          variable: loop.variable, lanes: lanes, mask: mask, remaining: remaining)
        e.variables[loop.variable] = i
        let next = e.emitBody(loop, phis, lanes)
        e.vector = nil
        return zip(next, phis).map { new, old in
          e.text.make(new.type, lanes, "select \(mask.text), \(new.text), \(old.text)")
        }
      }
    }
    // Lanes are combined by a fixed tree.
    for (a, value) in zip(loop.accumulators, folded) {
      var (current, width) = (value, lanes)
      while width > 1 {
        width /= 2
        let upper = (0..<lanes).map { "i32 \(min($0 + width, lanes - 1))" }.joined(separator: ", ")
        let shifted = text.make(
          current.type, lanes,
          "shufflevector \(current.text), \(current.fullType) poison, <\(lanes) x i32> <\(upper)>")
        current = combine(a, current, shifted)
      }
      values[a.result] = text.make(current.type, 0, "extractelement \(current.text), i64 0")
    }
  }

  // MARK: Contractions

  /// Calls of microkernels over the tiles of a block: depth blocks, panels, then rows.
  private mutating func emit(_ c: ContractStatement) {
    guard c.rows.total > 0, c.columns.total > 0 else { return }
    let a = address(c.a, index(c.aBase), c.type)
    let b = address(c.b, index(c.bBase), c.type)
    let result = address(c.c, index(c.cBase), c.type)
    perExtent(c.columns) { e, columns in
      e.perExtent(c.rows) { e, rows in
        var k = 0
        while k < c.depth || k == 0 {
          let depth = min(c.depthBlock, c.depth - k)
          let whole = columns / c.panelWidth
          if whole > 0 {
            _ = e.counted(from: "0", to: "\(whole)") { e, p, _ in
              e.emitPanel(
                c, a, b, result, panel: p, columns: c.panelWidth, rows: rows, k: k, depth: depth)
              return []
            }
          }
          if columns % c.panelWidth != 0 {
            let width = c.cIsPadded ? c.panelWidth : columns % c.panelWidth
            e.emitPanel(
              c, a, b, result, panel: "\(whole)", columns: width, rows: rows, k: k, depth: depth)
          }
          k += max(depth, 1)
        }
      }
    }
  }

  /// Runs `body` with the extent of the present block: the last block may be smaller.
  private mutating func perExtent(_ extent: BlockExtent, _ body: (inout KernelEmitter, Int) -> Void)
  {
    guard let block = extent.index, extent.blockCount > 1, extent.total % extent.size != 0 else {
      body(&self, extent.index == nil ? extent.total : min(extent.size, extent.total))
      return
    }
    let (last, full, done) = (text.label("last"), text.label("full"), text.label("joined"))
    let isLast = text.make("i1", 0, "icmp eq i64 \(variables[block]!), \(extent.blockCount - 1)")
      .name
    text.emit("br i1 \(isLast), label %\(last), label %\(full)")
    text.startBlock(last)
    body(&self, extent.lastSize)
    text.emit("br label %\(done)")
    text.startBlock(full)
    body(&self, extent.size)
    text.emit("br label %\(done)")
    text.startBlock(done)
  }

  private mutating func emitPanel(
    _ c: ContractStatement, _ a: String, _ b: String, _ result: String, panel: String, columns: Int,
    rows: Int, k: Int, depth: Int
  ) {
    let element = c.type.llvmType
    let bOffset = text.make("i64", 0, "mul nsw i64 \(panel), \(c.bPanelStride)").name
    let bStart = text.make("i64", 0, "add nsw i64 \(bOffset), \(k * c.bDepthStride)").name
    let bPointer = text.make("ptr", 0, "getelementptr inbounds \(element), ptr \(b), i64 \(bStart)")
      .name
    let cOffset = text.make("i64", 0, "mul nsw i64 \(panel), \(c.panelWidth)").name
    let laneCount = text.target.vectorBytes / c.type.byteCount
    var row = 0
    for (height, count) in Microkernel.rowPlan(rows, tile: text.target.tile.rows) {
      let kernel = Microkernel(
        type: c.type, rows: height, vectors: (columns + laneCount - 1) / laneCount,
        isMasked: columns % laneCount != 0, hasUnitDepth: c.aDepthStride == 1)
      microkernels.insert(kernel)
      let symbol = kernel.name(text.target)
      text.declare(kernel.declaration(text.target))
      _ = counted(from: "0", to: "\(count)") { e, tile, _ in
        let scaled = e.text.make("i64", 0, "mul nsw i64 \(tile), \(height)").name
        let first = e.text.make("i64", 0, "add nsw i64 \(scaled), \(row)").name
        let aRow = e.text.make("i64", 0, "mul nsw i64 \(first), \(c.aRowStride)").name
        let aStart = e.text.make("i64", 0, "add nsw i64 \(aRow), \(k * c.aDepthStride)").name
        let aPointer = e.text.make(
          "ptr", 0, "getelementptr inbounds \(element), ptr \(a), i64 \(aStart)"
        ).name
        let cRow = e.text.make("i64", 0, "mul nsw i64 \(first), \(c.cRowStride)").name
        let cStart = e.text.make("i64", 0, "add nsw i64 \(cRow), \(cOffset)").name
        let cPointer = e.text.make(
          "ptr", 0, "getelementptr inbounds \(element), ptr \(result), i64 \(cStart)"
        ).name
        e.text.emit(
          "call void @\(symbol)(ptr \(aPointer), i64 \(c.aRowStride), i64 \(c.aDepthStride), ptr \(bPointer), i64 \(c.bDepthStride), ptr \(cPointer), i64 \(c.cRowStride), i64 \(depth), i64 \(k > 0 || c.accumulates ? 1 : 0), i64 \(columns))"
        )
        return []
      }
      row += height * count
    }
  }

  /// Panels of an implicit convolution matrix. A panel whose positions are neighbours in memory is
  /// copied by vectors, any other lane by lane.
  private mutating func emit(_ p: PackStatement) {
    let element = p.type.llvmType
    let base = address(p.source, index(p.base), p.type)
    let (begin, end) = bounds(p.columns)
    let depth = p.taps.reduce(1) { $0 * $1.extent }
    let width = p.panelWidth
    let destination = pointers[p.destination]!
    func position(_ e: inout KernelEmitter, _ column: String) -> String {
      let variable = LoopVariable(id: -1, extent: max(p.columns.total, 2))
      let coordinate = delinearize(IndexExpression(variable), p.positions.map(\.extent))
      let offset = zip(coordinate, p.positions).reduce(IndexExpression(0)) {
        $0 + $1.0 * $1.1.stride
      }
      return e.index(offset, [variable: column])
    }
    _ = counted(from: begin, to: end, step: width) { e, column, _ in
      let offsets: [String] = (0..<width).map { lane in
        let at = e.text.make("i64", 0, "add nsw i64 \(column), \(lane)").name
        let inside = e.text.make("i1", 0, "icmp slt i64 \(at), \(p.columns.total)").name
        let safe = e.text.make(
          "i64", 0, "select i1 \(inside), i64 \(at), i64 \(p.columns.total - 1)"
        ).name
        return position(&e, safe)
      }
      let local = e.text.make("i64", 0, "sub nsw i64 \(column), \(begin)").name
      let panelStart = e.text.make("i64", 0, "mul nsw i64 \(local), \(depth)").name
      let span = e.text.make("i64", 0, "sub nsw i64 \(offsets[width - 1]), \(offsets[0])").name
      // Columns beyond the last repeat it, so that only a whole panel can be a run.
      let isDense = e.text.make("i1", 0, "icmp eq i64 \(span), \(width - 1)").name
      let last = e.text.make("i64", 0, "add nsw i64 \(column), \(width - 1)").name
      let isWhole = e.text.make("i1", 0, "icmp slt i64 \(last), \(p.columns.total)").name
      let isRun = e.text.make("i1", 0, "and i1 \(isDense), \(isWhole)").name
      let (run, scattered, done) = (
        e.text.label("run"), e.text.label("scattered"), e.text.label("packed")
      )
      e.text.emit("br i1 \(isRun), label %\(run), label %\(scattered)")
      for isVector in [true, false] {
        e.text.startBlock(isVector ? run : scattered)
        e.overTaps(p.taps[...], row: "0", offset: "0") { e, row, offset in
          let scaled = e.text.make("i64", 0, "mul nsw i64 \(row), \(width)").name
          let to = e.text.make("i64", 0, "add nsw i64 \(panelStart), \(scaled)").name
          let toPointer = e.text.make(
            "ptr", 0, "getelementptr inbounds \(element), ptr \(destination), i64 \(to)"
          ).name
          func source(_ lane: Int) -> String {
            let at = e.text.make("i64", 0, "add nsw i64 \(offset), \(offsets[lane])").name
            return e.text.make(
              "ptr", 0, "getelementptr inbounds \(element), ptr \(base), i64 \(at)"
            ).name
          }
          if isVector {
            let value = e.text.make(
              element, width,
              "load <\(width) x \(element)>, ptr \(source(0)), align \(p.type.byteCount)")
            e.text.emit("store \(value.text), ptr \(toPointer), align \(p.type.byteCount)")
          } else {
            for lane in 0..<width {
              let value = e.text.make(
                element, 0, "load \(element), ptr \(source(lane)), align \(p.type.byteCount)")
              let place = e.text.make(
                "ptr", 0, "getelementptr inbounds \(element), ptr \(toPointer), i64 \(lane)"
              ).name
              e.text.emit("store \(value.text), ptr \(place), align \(p.type.byteCount)")
            }
          }
        }
        e.text.emit("br label %\(done)")
      }
      e.text.startBlock(done)
      return []
    }
  }

  /// Nested loops over the taps; the body gets the tap's number and its offset in the source.
  private mutating func overTaps(
    _ taps: ArraySlice<PackStatement.Axis>, row: String, offset: String,
    _ body: (inout KernelEmitter, String, String) -> Void
  ) {
    guard let axis = taps.first else {
      body(&self, row, offset)
      return
    }
    _ = counted(from: "0", to: "\(axis.extent)") { e, i, _ in
      let scaled = e.text.make("i64", 0, "mul nsw i64 \(row), \(axis.extent)").name
      let nextRow = e.text.make("i64", 0, "add nsw i64 \(scaled), \(i)").name
      let step = e.text.make("i64", 0, "mul nsw i64 \(i), \(axis.stride)").name
      let nextOffset = e.text.make("i64", 0, "add nsw i64 \(offset), \(step)").name
      e.overTaps(taps.dropFirst(), row: nextRow, offset: nextOffset, body)
      return []
    }
  }
}
