package import DLCKernel

/// A place that branches go to.
struct Label: Hashable {
  fileprivate let name: String
}

/// Writes one LLVM module instruction by instruction: checks the types of operands, names results, and
/// collects the declarations that are needed. A class, since the emitters that write into it pass it around;
/// one thread uses it.
package final class FunctionText {
  private var lines: [String] = []
  private var counter = 0
  private var declarations: Set<String> = []
  private var definitions: Set<String> = []
  private var hasUnlikely = false
  private var hasInvariant = false
  /// The block that instructions now go to: what a phi names as its predecessor.
  private(set) var block = Label(name: "entry")
  package let target: Target

  package init(_ target: Target) { self.target = target }

  private func fresh(_ hint: String) -> String {
    counter += 1
    return "%\(hint)\(counter)"
  }

  private func emit(_ line: String) { lines.append("  " + line) }

  /// Emits `%x = <instruction>` and returns the value.
  private func make(
    _ type: ElementType, _ lanes: Int, _ instruction: String, hint: String = "v"
  ) -> Operand {
    let name = fresh(hint)
    emit("\(name) = \(instruction)")
    return Operand(name, type, lanes)
  }

  private func requireEqual(_ a: Operand, _ b: Operand) {
    precondition(a.type == b.type && a.lanes == b.lanes, "\(a.text) and \(b.text) differ in type")
  }

  /// The module: all functions, then the declarations.
  package var moduleText: String {
    "target triple = \"\(target.triple)\"\n\n" + lines.joined(separator: "\n") + "\n\n"
      + (declarations.sorted() + definitions.sorted()).joined(separator: "\n")
      + (hasInvariant ? "\n\n!0 = !{}" : "")
      + (hasUnlikely ? "\n\n!9 = !{!\"branch_weights\", i32 1, i32 1000000}" : "")
      + "\n\nattributes #0 = { nounwind willreturn mustprogress \"no-builtins\" }\n"
  }
}

// MARK: Functions

extension FunctionText {
  struct Parameter {
    var name: String
    var type: ElementType
    /// What LLVM may rely on, and where the argument comes from.
    var attributes = ""

    static func pointer(_ name: String, _ attributes: String) -> Parameter {
      Parameter(name: name, type: .pointer, attributes: attributes + " ")
    }
    static func index(_ name: String) -> Parameter { Parameter(name: name, type: .i64) }
  }

  /// Opens a function without result, and gives its arguments.
  func begin(_ symbol: String, _ parameters: [Parameter], isHidden: Bool = false) -> [Operand] {
    let list = parameters.map { "\($0.type.rawValue) \($0.attributes)%\($0.name)" }
    lines.append(
      "define \(isHidden ? "hidden " : "")void @\(symbol)(\(list.joined(separator: ", "))) #0 {")
    start(Label(name: "entry"))
    return parameters.map { Operand("%" + $0.name, $0.type) }
  }

  func end() { lines.append("}") }

  func ret() { emit("ret void") }

  /// Declares a function of another module.
  func declareHidden(_ symbol: String, _ parameters: [Parameter]) {
    let list = parameters.map(\.type.rawValue).joined(separator: ", ")
    declarations.insert("declare hidden void @\(symbol)(\(list)) #0")
  }

  /// Adds a function of the module's own, for what is rare. Names in it are numbered from the beginning: it
  /// is the same wherever it is asked for.
  func helper(
    _ symbol: String, _ parameters: [Parameter], gives types: [ElementType],
    _ body: ([Operand]) -> [Operand]
  ) {
    let outside = (lines, counter, block)
    (lines, counter, block) = ([], 0, Label(name: "entry"))
    let list = parameters.map { "\($0.type.rawValue) \($0.attributes)%\($0.name)" }
    let result = types.count == 1 ? types[0].rawValue : Self.structure(types)
    lines.append(
      "define internal \(result) @\(symbol)(\(list.joined(separator: ", "))) noinline #0 {")
    lines.append("entry:")
    let values = body(parameters.map { Operand("%" + $0.name, $0.type) })
    precondition(values.map(\.type) == types, "\(symbol) gives something else than it says")
    if values.count == 1 {
      emit("ret \(values[0].text)")
    } else {
      var whole = "poison"
      for (index, value) in values.enumerated() {
        let name = fresh("v")
        emit("\(name) = insertvalue \(result) \(whole), \(value.text), \(index)")
        whole = name
      }
      emit("ret \(result) \(whole)")
    }
    lines.append("}")
    definitions.insert(lines.joined(separator: "\n"))
    (lines, counter, block) = outside
  }

  /// Adds a table of the module's own.
  /// - Returns: where it lies.
  func table(_ symbol: String, _ words: [UInt64]) -> Operand {
    let list = words.map { "i64 \($0)" }.joined(separator: ", ")
    definitions.insert(
      "@\(symbol) = internal unnamed_addr constant [\(words.count) x i64] [\(list)], align 64")
    return Operand("@" + symbol, .pointer)
  }

  private static func structure(_ types: [ElementType]) -> String {
    "{ \(types.map(\.rawValue).joined(separator: ", ")) }"
  }

  func call(_ symbol: String, _ arguments: [Operand]) {
    emit("call void @\(symbol)(\(arguments.map(\.text).joined(separator: ", ")))")
  }

  func call(_ symbol: String, _ arguments: [Operand], gives type: ElementType) -> Operand {
    make(
      type, 0,
      "call \(type.rawValue) @\(symbol)(\(arguments.map(\.text).joined(separator: ", ")))")
  }

  /// Calls a function that gives two values.
  func call(_ symbol: String, _ arguments: [Operand], gives types: (ElementType, ElementType))
    -> (Operand, Operand)
  {
    let pair = Self.structure([types.0, types.1])
    let name = fresh("v")
    emit("\(name) = call \(pair) @\(symbol)(\(arguments.map(\.text).joined(separator: ", ")))")
    return (
      make(types.0, 0, "extractvalue \(pair) \(name), 0"),
      make(types.1, 0, "extractvalue \(pair) \(name), 1")
    )
  }
}

// MARK: Blocks

extension FunctionText {
  func label(_ hint: String) -> Label {
    counter += 1
    return Label(name: "\(hint)\(counter)")
  }

  func start(_ label: Label) {
    lines.append("\(label.name):")
    block = label
  }

  func branch(to label: Label) { emit("br label %\(label.name)") }

  /// - Parameter isRare: registers are kept for the other way.
  func branch(if condition: Operand, _ then: Label, else other: Label, isRare: Bool = false) {
    precondition(condition.type == .i1 && condition.lanes == 0, "a branch needs one bool")
    if isRare { hasUnlikely = true }
    emit(
      "br i1 \(condition.name), label %\(then.name), label %\(other.name)"
        + (isRare ? ", !prof !9" : ""))
  }

  /// What a value is after blocks that give it in their own ways.
  func phi(_ ways: [(value: Operand, from: Label)]) -> Operand {
    let first = ways[0].value
    for way in ways { requireEqual(way.value, first) }
    let list = ways.map { "[ \($0.value.name), %\($0.from.name) ]" }.joined(separator: ", ")
    return make(first.type, first.lanes, "phi \(first.fullType) \(list)")
  }

  /// A loop from `begin` up to `end`; the body gets the counter and the carried values, and gives
  /// their next values. Returns what the carried values are after the loop.
  func loop(
    from begin: Operand, to end: Operand, step: Int, carried: [Operand] = [],
    _ body: (Operand, [Operand]) -> [Operand]
  ) -> [Operand] {
    let (head, inside, done) = (label("head"), label("body"), label("done"))
    let (i, next) = (Operand(fresh("i"), .i64), Operand(fresh("n"), .i64))
    let before = block
    branch(to: head)
    start(head)
    let phis = carried.map { Operand(fresh("c"), $0.type, $0.lanes) }
    let mark = lines.count
    emit("")  // the phis, once the last block of the body is known
    let more = make(.i1, 0, "icmp slt \(i.text), \(end.name)", hint: "t")
    branch(if: more, inside, else: done)
    start(inside)
    let results = body(i, phis)
    for (result, phi) in zip(results, phis) { requireEqual(result, phi) }
    emit("\(next.name) = add nsw \(i.text), \(step)")
    let last = block
    branch(to: head)
    func phi(_ value: Operand, _ first: Operand, _ later: Operand) -> String {
      "  \(value.name) = phi \(value.fullType) [ \(first.name), %\(before.name) ], [ \(later.name), %\(last.name) ]"
    }
    lines[mark] =
      ([phi(i, begin, next)] + phis.indices.map { phi(phis[$0], carried[$0], results[$0]) })
      .joined(separator: "\n")
    start(done)
    return phis
  }
}

// MARK: Arithmetic

extension FunctionText {
  enum IntegerInstruction: String {
    case add, sub, mul, and, or, xor, shl, lshr, ashr, sdiv, udiv, srem, urem
  }
  enum RealInstruction: String {
    case fadd, fsub, fmul, fdiv
  }
  enum IntegerPredicate: String {
    case eq, ne, slt, sle, sgt, sge, ult, ule, ugt, uge
  }
  enum RealPredicate: String {
    case oeq, une, olt, ole, ogt, oge, one, uno, ugt, ult
  }
  enum Cast: String {
    case fpext, fptrunc, zext, sext, trunc, bitcast, sitofp, uitofp
  }

  func integer(_ instruction: IntegerInstruction, _ a: Operand, _ b: Operand, hint: String = "v")
    -> Operand
  {
    requireEqual(a, b)
    precondition(!a.type.isReal, "\(instruction) of \(a.text)")
    return make(a.type, a.lanes, "\(instruction.rawValue) \(a.text), \(b.name)", hint: hint)
  }

  func integer(_ instruction: IntegerInstruction, _ a: Operand, _ b: Int, hint: String = "v")
    -> Operand
  {
    integer(instruction, a, .integer(b, a.type, a.lanes), hint: hint)
  }

  // Positions and distances, which do not overflow.
  func add(_ a: Operand, _ b: Operand) -> Operand { position("add", a, b) }
  func add(_ a: Operand, _ b: Int) -> Operand { position("add", a, .index(b)) }
  func subtract(_ a: Operand, _ b: Operand) -> Operand { position("sub", a, b) }
  func multiply(_ a: Operand, _ b: Operand) -> Operand { position("mul", a, b) }
  func multiply(_ a: Operand, _ b: Int) -> Operand { position("mul", a, .index(b)) }

  private func position(_ instruction: String, _ a: Operand, _ b: Operand) -> Operand {
    requireEqual(a, b)
    precondition(a.type == .i64 && a.lanes == 0, "\(a.text) is no position")
    return make(.i64, 0, "\(instruction) nsw \(a.text), \(b.name)")
  }

  /// The smaller of two positions.
  func smaller(_ a: Operand, _ b: Operand) -> Operand { select(compare(.slt, a, b), a, b) }

  /// - Parameter ignoresZeroSign: whether -0 may be 0.
  func real(
    _ instruction: RealInstruction, _ a: Operand, _ b: Operand, ignoresZeroSign: Bool = false
  ) -> Operand {
    requireEqual(a, b)
    precondition(a.type.isReal, "\(instruction) of \(a.text)")
    return make(
      a.type, a.lanes,
      "\(instruction.rawValue) \(ignoresZeroSign ? "nsz " : "")\(a.text), \(b.name)")
  }

  func negate(_ a: Operand) -> Operand { make(a.type, a.lanes, "fneg \(a.text)") }

  /// The sum of numbers or of integers.
  func sum(_ a: Operand, _ b: Operand) -> Operand {
    a.type.isReal ? real(.fadd, a, b) : integer(.add, a, b)
  }

  /// a b + c, for numbers rounded once where the target has the instruction: the step of every product,
  /// wherever it is computed.
  func multiplyAdd(_ a: Operand, _ b: Operand, _ c: Operand) -> Operand {
    guard a.type.isReal else { return integer(.add, integer(.mul, a, b), c) }
    if target.hasMultiplyAdd { return intrinsic("fma", [a, b, c]) }
    return real(.fadd, real(.fmul, a, b), c)
  }

  func compare(_ predicate: IntegerPredicate, _ a: Operand, _ b: Operand) -> Operand {
    requireEqual(a, b)
    precondition(!a.type.isReal, "\(predicate) of \(a.text)")
    return make(.i1, a.lanes, "icmp \(predicate.rawValue) \(a.text), \(b.name)")
  }

  func compare(_ predicate: IntegerPredicate, _ a: Operand, _ b: Int) -> Operand {
    compare(predicate, a, .integer(b, a.type, a.lanes))
  }

  func compare(_ predicate: RealPredicate, _ a: Operand, _ b: Operand) -> Operand {
    requireEqual(a, b)
    precondition(a.type.isReal, "\(predicate) of \(a.text)")
    return make(.i1, a.lanes, "fcmp \(predicate.rawValue) \(a.text), \(b.name)")
  }

  func select(_ condition: Operand, _ a: Operand, _ b: Operand) -> Operand {
    requireEqual(a, b)
    precondition(condition.type == .i1, "\(condition.text) decides nothing")
    return make(a.type, a.lanes, "select \(condition.text), \(a.text), \(b.text)")
  }

  func cast(_ cast: Cast, _ a: Operand, to type: ElementType) -> Operand {
    make(
      type, a.lanes, "\(cast.rawValue) \(a.text) to \(Operand.fullType(type, a.lanes))")
  }

  /// Calls an intrinsic that is overloaded on the type of its first operand.
  func intrinsic(_ name: String, _ arguments: [Operand]) -> Operand {
    let first = arguments[0]
    for argument in arguments { requireEqual(argument, first) }
    let symbol = "@llvm.\(name).\(Operand.mangle(first.type, first.lanes))"
    declarations.insert(
      "declare \(first.fullType) \(symbol)(\(arguments.map(\.fullType).joined(separator: ", ")))")
    return make(
      first.type, first.lanes,
      "call \(first.fullType) \(symbol)(\(arguments.map(\.text).joined(separator: ", ")))")
  }

  /// Numbers as integers: those beyond the range take its ends.
  func saturating(_ a: Operand, to type: ElementType, isSigned: Bool) -> Operand {
    let to = Operand.fullType(type, a.lanes)
    let symbol =
      "@llvm.\(isSigned ? "fptosi" : "fptoui").sat.\(Operand.mangle(type, a.lanes)).\(Operand.mangle(a.type, a.lanes))"
    declarations.insert("declare \(to) \(symbol)(\(a.fullType))")
    return make(type, a.lanes, "call \(to) \(symbol)(\(a.text))")
  }

  /// How many bits above the highest one are not set.
  func leadingZeros(_ a: Operand) -> Operand {
    let symbol = "@llvm.ctlz.\(Operand.mangle(a.type, a.lanes))"
    declarations.insert("declare \(a.fullType) \(symbol)(\(a.fullType), i1)")
    return make(a.type, a.lanes, "call \(a.fullType) \(symbol)(\(a.text), i1 false)")
  }

  /// Whether a bool holds in any lane.
  func any(_ a: Operand) -> Operand {
    if a.lanes == 0 { return a }
    let symbol = "@llvm.vector.reduce.or.v\(a.lanes)i1"
    declarations.insert("declare i1 \(symbol)(\(a.fullType))")
    return make(.i1, 0, "call i1 \(symbol)(\(a.text))")
  }
}

// MARK: Lanes

extension FunctionText {
  /// A scalar as a vector with equal lanes.
  func splat(_ value: Operand, _ lanes: Int) -> Operand {
    if value.lanes == lanes { return value }
    if value.isLiteral { return .repeated(value.name, value.type, lanes) }
    let one = insert(value, into: .poison(value.type, lanes), 0)
    return make(
      value.type, lanes,
      "shufflevector \(one.text), \(Operand.poison(value.type, lanes).text), \(Operand.zero(.i32, lanes).text)"
    )
  }

  func extract(_ a: Operand, _ lane: Int) -> Operand {
    make(a.type, 0, "extractelement \(a.text), i64 \(lane)")
  }

  func insert(_ value: Operand, into a: Operand, _ lane: Int) -> Operand {
    precondition(value.type == a.type && value.lanes == 0, "\(value.text) is no lane of \(a.text)")
    return make(a.type, a.lanes, "insertelement \(a.text), \(value.text), i64 \(lane)")
  }

  /// The numbered lanes of two vectors side by side.
  func shuffle(_ a: Operand, _ b: Operand, _ lanes: [Int]) -> Operand {
    requireEqual(a, b)
    return make(
      a.type, lanes.count,
      "shufflevector \(a.text), \(b.text), \(Operand.integers(lanes, .i32).text)")
  }

  /// Vectors of equal length as one, and so many lanes of one as several.
  func concatenated(_ parts: [Operand]) -> Operand {
    if parts.count == 1 { return parts[0] }
    return concatenated(
      stride(from: 0, to: parts.count, by: 2).map { i in
        shuffle(parts[i], parts[i + 1], Array(0..<2 * parts[i].lanes))
      })
  }

  func parts(_ a: Operand, _ lanes: Int) -> [Operand] {
    stride(from: 0, to: a.lanes, by: lanes).map { first in
      shuffle(a, .poison(a.type, a.lanes), Array(first..<first + lanes))
    }
  }

  /// Lanes before `count`, a position, as bools.
  func mask(_ lanes: Int, before count: Operand) -> Operand {
    let limit = splat(cast(.trunc, count, to: .i32), lanes)
    return compare(.slt, .integers(Array(0..<lanes), .i32), limit)
  }
}

// MARK: Memory

extension FunctionText {
  /// Where the element number `index` from a pointer lies.
  func offset(
    _ pointer: Operand, _ index: Operand, of type: ElementType, hint: String = "v"
  ) -> Operand {
    precondition(pointer.type == .pointer && index.type == .i64, "\(index.text) of \(pointer.text)")
    return make(
      .pointer, 0, "getelementptr inbounds \(type.rawValue), \(pointer.text), \(index.text)",
      hint: hint)
  }

  /// Lanes side by side in memory, or one element.
  func load(_ type: ElementType, _ lanes: Int, from pointer: Operand, align: Int) -> Operand {
    make(
      type, lanes, "load \(Operand.fullType(type, lanes)), \(pointer.text), align \(align)")
  }

  /// A pointer that nobody changes.
  func loadPointer(from pointer: Operand, hint: String) -> Operand {
    hasInvariant = true
    return make(
      .pointer, 0, "load ptr, \(pointer.text), align 8, !invariant.load !0", hint: hint)
  }

  func store(_ value: Operand, to pointer: Operand, align: Int) {
    emit("store \(value.text), \(pointer.text), align \(align)")
  }

  /// Zeros where the mask is false.
  func load(
    _ type: ElementType, _ lanes: Int, from pointer: Operand, align: Int, mask: Operand
  ) -> Operand {
    let zero = Operand.zero(type, lanes)
    let symbol = "@llvm.masked.load.\(Operand.mangle(type, lanes)).p0"
    declarations.insert(
      "declare \(zero.fullType) \(symbol)(ptr, i32, \(mask.fullType), \(zero.fullType))")
    return make(
      type, lanes,
      "call \(zero.fullType) \(symbol)(\(pointer.text), i32 \(align), \(mask.text), \(zero.text))")
  }

  func store(_ value: Operand, to pointer: Operand, align: Int, mask: Operand) {
    let symbol = "@llvm.masked.store.\(Operand.mangle(value.type, value.lanes)).p0"
    declarations.insert("declare void \(symbol)(\(value.fullType), ptr, i32, \(mask.fullType))")
    emit("call void \(symbol)(\(value.text), \(pointer.text), i32 \(align), \(mask.text))")
  }

  /// Elements at distances from a pointer.
  func gather(_ type: ElementType, from pointer: Operand, at distances: Operand, align: Int)
    -> Operand
  {
    let lanes = distances.lanes
    let places = make(
      .pointer, lanes, "getelementptr inbounds \(type.rawValue), \(pointer.text), \(distances.text)"
    )
    let mask = Operand.repeated("true", .i1, lanes)
    let mangled = Operand.mangle(type, lanes)
    let name = "llvm.masked.gather.\(mangled).v\(lanes)p0"
    let full = Operand.fullType(type, lanes)
    declarations.insert(
      "declare \(full) @\(name)(<\(lanes) x ptr>, i32, <\(lanes) x i1>, \(full))")
    return make(
      type, lanes,
      "call \(full) @\(name)(\(places.text), i32 \(align), \(mask.text), \(full) poison)")
  }

  /// Asks for the memory so many bytes ahead.
  func prefetch(_ pointer: Operand, ahead bytes: Int) {
    declarations.insert("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    // It may lie beyond the memory that the pointer is into.
    let at = make(.pointer, 0, "getelementptr i8, \(pointer.text), i64 \(bytes)")
    emit("call void @llvm.prefetch.p0(\(at.text), i32 0, i32 3, i32 1)")
  }
}
