import DLCProgram

/// A function of this process that programs call by name, as a step between kernels.
///
/// It is called once for each time that its step is reached, when all steps that it waits for are done, on
/// the thread that runs the program; several runs may call it at the same time. What it writes must depend
/// on nothing but what it reads, so that results stay the same for any number of threads.
package typealias HostFunction = @Sendable (borrowing HostOperands) -> Void

/// The buffers of one host call, as bytes.
package struct HostOperands: ~Copyable {
  private let pointers: UnsafePointer<UnsafeMutableRawPointer?>
  private let accesses: [OperandAccess]

  init(_ pointers: UnsafePointer<UnsafeMutableRawPointer?>, _ accesses: [OperandAccess]) {
    self.pointers = pointers
    self.accesses = accesses
  }

  package var count: Int { accesses.count }
  /// Whether the call only reads an operand.
  package func isRead(_ operand: Int) -> Bool { !accesses[operand].isWritten }

  /// The bytes of an operand while `body` runs.
  package func withBytes<Result>(_ operand: Int, _ body: (RawSpan) -> Result) -> Result {
    let start = UnsafeRawPointer(pointers[operand])
    return body(UnsafeRawBufferPointer(start: start, count: accesses[operand].byteCount).bytes)
  }

  /// The bytes of an operand that the call writes, while `body` runs.
  package func withMutableBytes<Result>(
    _ operand: Int, _ body: (inout MutableRawSpan) -> Result
  ) -> Result {
    precondition(accesses[operand].isWritten, "operand \(operand) is only read")
    let bytes = UnsafeMutableRawBufferPointer(
      start: pointers[operand], count: accesses[operand].byteCount)
    var span = bytes.mutableBytes
    return body(&span)
  }
}

/// A host function with what it is called on.
final class BoundHostCall: Sendable {
  private let function: HostFunction
  private let operands: [OperandAccess]

  init(_ function: @escaping HostFunction, _ operands: [OperandAccess]) {
    self.function = function
    self.operands = operands
  }

  // Swift 6.3.1 aborts where it inlines this into its caller with optimisation.
  @inline(never)
  func callAsFunction(_ arguments: UnsafePointer<UnsafeMutableRawPointer?>) {
    function(HostOperands(arguments, operands))
  }
}
