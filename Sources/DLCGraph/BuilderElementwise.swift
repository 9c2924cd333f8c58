import DLCTensor

/// Functions of elements, and the usual reductions.
extension FunctionBuilder {
  public func negate(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.negate, x, file: file, line: line)
  }
  public func abs(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.abs, x, file: file, line: line)
  }
  public func sign(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.sign, x, file: file, line: line)
  }
  public func exponential(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.exponential, x, file: file, line: line)
  }
  public func log(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.log, x, file: file, line: line)
  }
  public func logPlusOne(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.log_plus_one, x, file: file, line: line)
  }
  public func sqrt(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.sqrt, x, file: file, line: line)
  }
  public func rsqrt(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.rsqrt, x, file: file, line: line)
  }
  public func tanh(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.tanh, x, file: file, line: line)
  }
  /// 1 / (1 + e^-x)
  public func logistic(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.logistic, x, file: file, line: line)
  }
  public func sine(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.sine, x, file: file, line: line)
  }
  public func cosine(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.cosine, x, file: file, line: line)
  }
  public func erf(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.erf, x, file: file, line: line)
  }
  public func erfc(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.erfc, x, file: file, line: line)
  }
  public func maximum(_ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line)
    -> Value
  { binary(.maximum, a, b, file: file, line: line) }
  public func minimum(_ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line)
    -> Value
  { binary(.minimum, a, b, file: file, line: line) }
  public func power(_ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line)
    -> Value
  { binary(.power, a, b, file: file, line: line) }
  public func sum(
    _ x: Value, axes: [Int], keepAxes: Bool = false, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { reduce(.sum, x, axes: axes, keepAxes: keepAxes, file: file, line: line) }
  public func max(
    _ x: Value, axes: [Int], keepAxes: Bool = false, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { reduce(.maximum, x, axes: axes, keepAxes: keepAxes, file: file, line: line) }
  public func min(
    _ x: Value, axes: [Int], keepAxes: Bool = false, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { reduce(.minimum, x, axes: axes, keepAxes: keepAxes, file: file, line: line) }
}

/// Operators between values, and between values and numbers, which take the value's type.
extension Value {
  public static func + (a: Value, b: Value) -> Value {
    FunctionBuilder.operate(a, b) { $0.binary(.add, a, b) }
  }
  public static func - (a: Value, b: Value) -> Value {
    FunctionBuilder.operate(a, b) { $0.binary(.subtract, a, b) }
  }
  public static func * (a: Value, b: Value) -> Value {
    FunctionBuilder.operate(a, b) { $0.binary(.multiply, a, b) }
  }
  public static func / (a: Value, b: Value) -> Value {
    FunctionBuilder.operate(a, b) { $0.binary(.divide, a, b) }
  }
  public static func & (a: Value, b: Value) -> Value {
    FunctionBuilder.operate(a, b) { $0.binary(.and, a, b) }
  }
  public static func | (a: Value, b: Value) -> Value {
    FunctionBuilder.operate(a, b) { $0.binary(.or, a, b) }
  }
  public static prefix func - (a: Value) -> Value {
    FunctionBuilder.operate(a) { $0.unary(.negate, a) }
  }
  public static func + (a: Value, b: Double) -> Value {
    FunctionBuilder.operate(a) { a + $0.constant(b, a.dataType) }
  }
  public static func - (a: Value, b: Double) -> Value {
    FunctionBuilder.operate(a) { a - $0.constant(b, a.dataType) }
  }
  public static func * (a: Value, b: Double) -> Value {
    FunctionBuilder.operate(a) { a * $0.constant(b, a.dataType) }
  }
  public static func / (a: Value, b: Double) -> Value {
    FunctionBuilder.operate(a) { a / $0.constant(b, a.dataType) }
  }
  public static func + (a: Double, b: Value) -> Value { b + a }
  public static func * (a: Double, b: Value) -> Value { b * a }
  public static func / (a: Double, b: Value) -> Value {
    FunctionBuilder.operate(b) { $0.constant(a, b.dataType) / b }
  }
  public static func - (a: Double, b: Value) -> Value {
    FunctionBuilder.operate(b) { $0.constant(a, b.dataType) - b }
  }
}
