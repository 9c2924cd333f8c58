import DLCProgram
import DLCTensor

extension Executable {
  /// State tensors, and what preparation made of them.
  struct Store {
    var values: [TensorStorage?]
    var prepared: TensorStorage?
    /// Memory of earlier values, for the next ones.
    var spares: [TensorStorage?] = []

    /// Memory for the next value of a state: that of the value before the last, when nobody holds it.
    mutating func spare(_ position: Int, _ port: StatePort) throws(DLCError) -> TensorStorage {
      if spares[position] != nil, isKnownUniquelyReferenced(&spares[position]!),
        spares[position]!.isOwned
      {
        return spares[position]!
      }
      return try Self.memory(for: port)
    }

    private static func memory(for port: StatePort) throws(DLCError) -> TensorStorage {
      let type = TensorType(port.type, sizes: port.shape)
      return try TensorStorage(
        reserving: type.byteCount, for: "the next value of state '\(port.name)', \(type)")
    }

    /// Makes a value that nobody else holds and that may be written.
    mutating func makeUnique(_ position: Int, _ port: StatePort) throws(DLCError) {
      guard values[position] != nil else { return }
      if isKnownUniquelyReferenced(&values[position]!), values[position]!.isOwned { return }
      let value = values[position]!
      let copy = try Self.memory(for: port)
      copy.bytes.copyMemory(from: UnsafeRawBufferPointer(value.bytes))
      values[position] = copy
    }
  }
}
