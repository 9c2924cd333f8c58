import DLCGraph
import DLCTensor

/// uint64, which runtimes have no arithmetic of: in int64, whose bits are the same.
extension NodeExporter {
  func unsigned(_ f: BinaryFunction, _ a: String, _ b: String) throws(DLCError) -> String {
    switch f {
    case .maximum: return select(try compare(.less, a, b, .uint64), b, a, .uint64)
    case .minimum: return select(try compare(.less, b, a, .uint64), b, a, .uint64)
    case .divide: return exporter.cast(try quotient(a, b), .int64, .uint64)
    case .remainder:
      let (n, d) = (exporter.cast(a, .uint64, .int64), exporter.cast(b, .uint64, .int64))
      // By zero the quotient is of any size, and the remainder is n.
      let rest = emit("Sub", [n, emit("Mul", [try quotient(a, b), d])])
      return exporter.cast(rest, .int64, .uint64)
    default: throw refuse("'\(f.rawValue)' of uint64")
    }
  }

  /// The bits of n / d: all of them for d = 0.
  ///
  /// Warren, Hacker's Delight (2012), 9-3: half of n is divided as a signed number, twice that is at most 1 too small;
  /// a divisor of 2^63 or more is in n once or never.
  private func quotient(_ a: String, _ b: String) throws(DLCError) -> String {
    guard exporter.opset >= 18 else { throw refuse("a quotient of uint64") }
    func integer(_ n: Int64) -> String {
      exporter.constant(Tensor(.int64, [], truncating: [n]))
    }
    let (n, d) = (exporter.cast(a, .uint64, .int64), exporter.cast(b, .uint64, .int64))
    let isLarge = emit("Less", [d, integer(0)])
    let isZero = emit("Equal", [d, integer(0)])
    let divisor = emit("Where", [emit("Or", [isLarge, isZero]), integer(1), d])
    let one = exporter.scalar(1, .uint64)
    let half = emit("BitShift", [a, one], ["direction": .text(Array("RIGHT".utf8))])
    let part = emit("Div", [exporter.cast(half, .uint64, .int64), divisor])
    let twice = emit("Add", [part, part])
    let rest = emit("Sub", [n, emit("Mul", [twice, divisor])])
    let more = try compare(
      .greater_equal, exporter.cast(rest, .int64, .uint64), exporter.cast(divisor, .int64, .uint64),
      .uint64)
    let small = emit("Add", [twice, exporter.cast(more, .bool, .int64)])
    let large = exporter.cast(try compare(.greater_equal, a, b, .uint64), .bool, .int64)
    let result = emit("Where", [isLarge, large, small])
    return emit("Where", [isZero, integer(-1), result])
  }
}
