package import DLCKernel
package import DLCTensor

/// A value in LLVM text: its name or literal, its element type, and the number of lanes (0 = scalar).
package struct Operand: Hashable {
  package var name: String
  package var type: String  // the element type, as LLVM writes it
  package var lanes: Int

  package var fullType: String { lanes == 0 ? type : "<\(lanes) x \(type)>" }
  package var text: String { "\(fullType) \(name)" }
}

/// Collects the text of one LLVM module: functions line by line, and the intrinsics they declare.
/// A class, since the emitters that write into it pass it around; one thread uses it.
package final class FunctionText {
  package private(set) var lines: [String] = []
  private var counter = 0
  private var declarations: Set<String> = []
  private var definitions: Set<String> = []
  private var hasUnlikely = false
  /// The block that instructions now go to: what a phi names as its predecessor.
  package private(set) var block = "entry"
  package let target: Target

  package init(_ target: Target) { self.target = target }

  package func fresh(_ hint: String = "v") -> String {
    counter += 1
    return "%\(hint)\(counter)"
  }

  package func emit(_ line: String) { lines.append("  " + line) }

  package func raw(_ line: String) { lines.append(line) }

  package func startBlock(_ label: String) {
    lines.append("\(label):")
    block = label
  }

  package func label(_ hint: String) -> String {
    counter += 1
    return "\(hint)\(counter)"
  }

  /// Emits `%x = <instruction>` and returns the value.
  package func make(_ type: String, _ lanes: Int, _ instruction: String) -> Operand {
    let name = fresh()
    emit("\(name) = \(instruction)")
    return Operand(name: name, type: type, lanes: lanes)
  }

  package func declare(_ text: String) { declarations.insert(text) }

  /// Adds functions and constants of the module's own.
  package func define(_ text: String) { definitions.insert(text) }

  /// What marks the first target of a branch as rare: registers are kept for the other one.
  package var unlikely: String {
    hasUnlikely = true
    return ", !prof !9"
  }

  /// Calls an intrinsic that is overloaded on the type of its first operand.
  package func intrinsic(_ name: String, _ arguments: [Operand]) -> Operand {
    let first = arguments[0]
    let symbol = "@llvm.\(name).\(Self.mangle(first))"
    declare(
      "declare \(first.fullType) \(symbol)(\(arguments.map(\.fullType).joined(separator: ", ")))")
    return make(
      first.type, first.lanes,
      "call \(first.fullType) \(symbol)(\(arguments.map(\.text).joined(separator: ", ")))")
  }

  /// a b + c, rounded once where the target has the instruction: the step of every product, wherever it
  /// is computed.
  package func multiplyAdd(_ a: Operand, _ b: Operand, _ c: Operand) -> Operand {
    if target.hasMultiplyAdd { return intrinsic("fma", [a, b, c]) }
    let product = make(a.type, a.lanes, "fmul \(a.text), \(b.name)")
    return make(a.type, a.lanes, "fadd \(product.text), \(c.name)")
  }

  package static func mangle(_ operand: Operand) -> String {
    let element =
      switch operand.type {
      case "float": "f32"
      case "double": "f64"
      case "half": "f16"
      default: operand.type
      }
    return operand.lanes == 0 ? element : "v\(operand.lanes)\(element)"
  }

  /// A scalar as a vector with equal lanes.
  package func splat(_ value: Operand, _ lanes: Int) -> Operand {
    if value.lanes == lanes { return value }
    if !value.name.hasPrefix("%") {
      return Self.literal(value.name, value.type, lanes)
    }
    let one = make(
      value.type, lanes,
      "insertelement <\(lanes) x \(value.type)> poison, \(value.type) \(value.name), i64 0")
    return make(
      value.type, lanes,
      "shufflevector \(one.text), <\(lanes) x \(value.type)> poison, <\(lanes) x i32> zeroinitializer"
    )
  }

  package static func literal(_ text: String, _ type: String, _ lanes: Int) -> Operand {
    if lanes == 0 { return Operand(name: text, type: type, lanes: 0) }
    let element = "\(type) \(text)"
    return Operand(
      name: "<" + [String](repeating: element, count: lanes).joined(separator: ", ") + ">",
      type: type, lanes: lanes)
  }

  /// A floating-point literal, exact: LLVM wants the bits of the double.
  package static func floating(_ value: Double, _ type: String) -> String {
    let exact = type == "double" ? value : Double(Float(value))
    let digits = String(exact.bitPattern, radix: 16, uppercase: true)
    return "0x" + String(repeating: "0", count: 16 - digits.count) + digits
  }

  package func integer(_ instruction: String, _ a: Operand, _ b: Int) -> Operand {
    make(a.type, a.lanes, "\(instruction) \(a.text), \(Self.literal("\(b)", a.type, a.lanes).name)")
  }

  /// A loop from `begin` up to `end`; the body gets the counter and the carried values, and gives
  /// their next values. Returns what the carried values are after the loop.
  package func loop(
    from begin: String, to end: String, step: Int, carried: [Operand] = [],
    _ body: (String, [Operand]) -> [Operand]
  ) -> [Operand] {
    let (head, inside, done) = (label("head"), label("body"), label("done"))
    let (i, next) = (fresh("i"), fresh("n"))
    let before = block
    emit("br label %\(head)")
    startBlock(head)
    let phis = carried.map { Operand(name: fresh("c"), type: $0.type, lanes: $0.lanes) }
    let mark = lines.count
    emit("")  // the phis, once the last block of the body is known
    let more = fresh("t")
    emit("\(more) = icmp slt i64 \(i), \(end)")
    emit("br i1 \(more), label %\(inside), label %\(done)")
    startBlock(inside)
    let results = body(i, phis)
    emit("\(next) = add nsw i64 \(i), \(step)")
    let last = block
    emit("br label %\(head)")
    var text = "  \(i) = phi i64 [ \(begin), %\(before) ], [ \(next), %\(last) ]"
    for (index, phi) in phis.enumerated() {
      text +=
        "\n  \(phi.name) = phi \(phi.fullType) [ \(carried[index].name), %\(before) ], [ \(results[index].name), %\(last) ]"
    }
    lines[mark] = text
    startBlock(done)
    return phis
  }

  /// The module: all functions, then the declarations.
  package var moduleText: String {
    "target triple = \"\(target.triple)\"\n\n" + lines.joined(separator: "\n") + "\n\n"
      + (declarations.sorted() + definitions.sorted()).joined(separator: "\n")
      + (hasUnlikely ? "\n\n!9 = !{!\"branch_weights\", i32 1, i32 1000000}" : "")
      + "\n\nattributes #0 = { nounwind willreturn mustprogress \"no-builtins\" }\n"
  }
}

extension DataType {
  /// LLVM's type of a value in a register.
  package var llvmType: String {
    switch computeType {
    case .float32: "float"
    case .float64: "double"
    case .bool: "i1"
    default: "i\(bitCount)"
    }
  }

  /// LLVM's type of an element in memory.
  package var llvmStorage: String {
    switch self {
    case .float16: "half"
    case .bfloat16: "i16"
    case .bool: "i8"
    default: llvmType
    }
  }
}
