package import DLCTensor

/// The types of a lane, as LLVM writes them.
package enum ElementType: String, Hashable, Sendable {
  case i1, i8, i16, i32, i64, i128, half, float, double
  case pointer = "ptr"

  package var isReal: Bool {
    switch self {
    case .half, .float, .double: true
    default: false
    }
  }

  /// The integer of its size.
  var bits: ElementType {
    switch self {
    case .half: .i16
    case .float: .i32
    case .double: .i64
    default: self
    }
  }

  /// How intrinsics are named by it.
  fileprivate var mangled: String {
    switch self {
    case .half: "f16"
    case .float: "f32"
    case .double: "f64"
    default: rawValue
    }
  }
}

/// A value of the function that is written: its name or literal, the type of its lanes, and their number
/// (0 = scalar).
package struct Operand: Hashable, Sendable {
  package let name: String
  package let type: ElementType
  package let lanes: Int

  init(_ name: String, _ type: ElementType, _ lanes: Int = 0) {
    self.name = name
    self.type = type
    self.lanes = lanes
  }

  /// Whether it is a literal that is NaN in its first lane, as all literals are the same in all lanes.
  var isNaN: Bool {
    guard type.isReal, let start = name.firstIndex(of: "x"),
      let bits = UInt64(name[start...].dropFirst().prefix(16), radix: 16)
    else { return false }
    return Double(bitPattern: bits).isNaN
  }

  static func fullType(_ type: ElementType, _ lanes: Int) -> String {
    lanes == 0 ? type.rawValue : "<\(lanes) x \(type.rawValue)>"
  }

  var fullType: String { Self.fullType(type, lanes) }
  var text: String { "\(fullType) \(name)" }
  var isLiteral: Bool { !name.hasPrefix("%") }

  static func mangle(_ type: ElementType, _ lanes: Int) -> String {
    lanes == 0 ? type.mangled : "v\(lanes)\(type.mangled)"
  }

  // MARK: Literals

  /// A position or a distance.
  static func index(_ value: Int) -> Operand { Operand("\(value)", .i64) }

  static func bool(_ value: Bool) -> Operand { Operand(value ? "true" : "false", .i1) }

  static func integer(_ value: Int, _ type: ElementType, _ lanes: Int) -> Operand {
    precondition(!type.isReal && type != .pointer, "\(type) is no type of integers")
    return repeated("\(value)", type, lanes)
  }

  static func unsigned(_ value: UInt64, _ type: ElementType) -> Operand {
    precondition(!type.isReal && type != .pointer, "\(type) is no type of integers")
    return Operand("\(value)", type)
  }

  /// Exact: LLVM wants the bits of the double.
  static func real(_ value: Double, _ type: ElementType, _ lanes: Int = 0) -> Operand {
    precondition(type.isReal, "\(type) is no type of numbers")
    let exact = type == .double ? value : Double(Float(value))
    let digits = String(exact.bitPattern, radix: 16, uppercase: true)
    return repeated("0x" + String(repeating: "0", count: 16 - digits.count) + digits, type, lanes)
  }

  /// Integers of a vector, lane by lane.
  static func integers(_ values: [Int], _ type: ElementType) -> Operand {
    let list = values.map { "\(type.rawValue) \($0)" }.joined(separator: ", ")
    return Operand("<\(list)>", type, values.count)
  }

  static func zero(_ type: ElementType, _ lanes: Int) -> Operand {
    Operand("zeroinitializer", type, lanes)
  }

  static func poison(_ type: ElementType, _ lanes: Int) -> Operand {
    Operand("poison", type, lanes)
  }

  /// A literal in every lane.
  static func repeated(_ literal: String, _ type: ElementType, _ lanes: Int) -> Operand {
    if lanes == 0 { return Operand(literal, type) }
    let element = "\(type.rawValue) \(literal)"
    return Operand(
      "<" + [String](repeating: element, count: lanes).joined(separator: ", ") + ">", type, lanes)
  }
}

extension DataType {
  /// The type of a value in a register.
  package var llvmType: ElementType {
    switch computeType {
    case .float32: .float
    case .float64: .double
    case .bool: .i1
    default:
      switch bitCount {
      case 8: .i8
      case 16: .i16
      case 32: .i32
      default: .i64
      }
    }
  }

  /// The type of an element in memory.
  package var llvmStorage: ElementType {
    switch self {
    case .float16: .half
    case .bfloat16: .i16
    case .bool: .i8
    default: llvmType
    }
  }
}
