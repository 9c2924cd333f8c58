package import CProtobufSchema
package import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Memory for a tree of protobuf-c structures that is being encoded.
package final class ProtobufArena {
  private var blocks: [UnsafeMutableRawPointer] = []

  package init() {}

  deinit { for block in blocks { block.deallocate() } }

  private func allocate(_ size: Int, _ alignment: Int) -> UnsafeMutableRawPointer {
    let block = UnsafeMutableRawPointer.allocate(byteCount: max(size, 1), alignment: alignment)
    blocks.append(block)
    return block
  }

  package func string(_ text: String) -> UnsafeMutablePointer<CChar> {
    let bytes = text.utf8CString
    let block = allocate(bytes.count, 1).bindMemory(to: CChar.self, capacity: bytes.count)
    for (index, byte) in bytes.enumerated() { block[index] = byte }
    return block
  }

  /// A structure in its initial state.
  package func message<M>(
    _ initialise: (UnsafeMutablePointer<M>?) -> Void, _ fill: (inout M) -> Void
  )
    -> UnsafeMutablePointer<M>
  {
    let block = allocate(MemoryLayout<M>.size, MemoryLayout<M>.alignment).bindMemory(
      to: M.self, capacity: 1)
    initialise(block)
    fill(&block.pointee)
    return block
  }

  /// The array form of a repeated field.
  package func list<T>(_ values: [T]) -> UnsafeMutablePointer<T>? {
    if values.isEmpty { return nil }
    let block = allocate(values.count * MemoryLayout<T>.stride, MemoryLayout<T>.alignment)
      .bindMemory(to: T.self, capacity: values.count)
    block.initialize(from: values, count: values.count)
    return block
  }

  /// A repeated field of messages.
  package func messages<M>(_ values: [UnsafeMutablePointer<M>]) -> UnsafeMutablePointer<
    UnsafeMutablePointer<M>?
  >? {
    list(values.map { Optional($0) })
  }

  package func strings(_ values: [String]) -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? {
    list(values.map { Optional(string($0)) })
  }

  package func binary(_ tensor: Tensor) -> ProtobufCBinaryData {
    let block = allocate(tensor.byteCount, 1)
    tensor.withUnsafeBytes {
      if !$0.isEmpty { block.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    }
    return ProtobufCBinaryData(
      len: tensor.byteCount, data: block.assumingMemoryBound(to: UInt8.self))
  }

  /// The encoding of a message.
  package static func encode(_ message: UnsafePointer<ProtobufCMessage>) -> [UInt8] {
    let size = protobuf_c_message_get_packed_size(message)
    return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      count = size == 0 ? 0 : protobuf_c_message_pack(message, buffer.baseAddress)
    }
  }
}

/// A decoded message, by an allocator that gives out a bounded number of bytes; it owns its memory.
package final class ProtobufMessage<M>: @unchecked Sendable {
  // Nothing changes the message but its one owner.
  private let message: UnsafeMutablePointer<ProtobufCMessage>
  private let budget: UnsafeMutablePointer<Int>
  private var allocator: ProtobufCAllocator

  package var pointer: UnsafeMutablePointer<M> {
    UnsafeMutableRawPointer(message).assumingMemoryBound(to: M.self)
  }
  package var value: M { pointer.pointee }

  /// - Parameters:
  ///   - kind: what the file should be, such as "a dlc file".
  ///   - depth: so many messages may be inside of one another.
  /// - Throws: `.format` when the bytes are no such message, are nested too deep or ask for too much memory.
  package init(
    _ bytes: UnsafeRawBufferPointer, _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>,
    as: M.Type, kind: String = "a dlc file", depth: Int = 400, path: String
  ) throws(DLCError) {
    if let flaw = ProtobufWire.flaw(bytes, descriptor, atMost: depth) {
      throw DLCError(.format, flaw.message(kind), at: path)
    }
    // A field takes at least two bytes on the wire; structures are larger, but real files hold text.
    budget = UnsafeMutablePointer<Int>.allocate(capacity: 1)
    budget.initialize(to: bytes.count * 48 + 65536)
    allocator = ProtobufCAllocator(
      alloc: { data, size in
        let remaining = data!.assumingMemoryBound(to: Int.self)
        guard size <= remaining.pointee else { return nil }
        remaining.pointee -= size
        // protobuf-c relies on the caller for alignment only; zeroed memory keeps it predictable.
        return calloc(1, max(size, 1))
      },
      free: { _, pointer in free(pointer) }, allocator_data: UnsafeMutableRawPointer(budget))
    let message = protobuf_c_message_unpack(
      descriptor, &allocator, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
    guard let message else {
      budget.deallocate()
      throw DLCError(.format, "the file is damaged or is not \(kind)", at: path)
    }
    self.message = message
  }

  deinit {
    protobuf_c_message_free_unpacked(message, &allocator)
    budget.deallocate()
  }
}

enum ProtobufDecoding {
  /// Unpacks, hands the message to `body`, and frees it.
  /// - Throws: as `ProtobufMessage` does.
  static func decode<M, R>(
    _ bytes: UnsafeRawBufferPointer, _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>,
    as: M.Type, path: String, _ body: (M) throws(DLCError) -> R
  ) throws(DLCError) -> R {
    let message = try ProtobufMessage(bytes, descriptor, as: M.self, path: path)
    // The structure points into memory that the message frees.
    defer { withExtendedLifetime(message) {} }
    return try body(message.value)
  }
}

/// The wire format, as far as it must be read before it is decoded: protobuf-c descends into messages by
/// recursion, however deep they are.
package enum ProtobufWire {
  /// A varint from `position` on, which moves behind it; nil when the bytes end or it has too many of them.
  private static func varint(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) -> UInt64? {
    var (result, shift) = (UInt64(0), UInt64(0))
    while position < bytes.count, shift < 64 {
      let byte = bytes[position]
      position += 1
      result |= UInt64(byte & 127) << shift
      if byte < 128 { return result }
      shift += 7
    }
    return nil
  }

  /// The first field of that number that has a length, as far as the bytes go.
  package static func field(_ wanted: UInt64, of bytes: UnsafeRawBufferPointer)
    -> UnsafeRawBufferPointer?
  {
    var position = 0
    while position < bytes.count, let tag = varint(bytes, &position) {
      switch tag & 7 {
      case 0: if varint(bytes, &position) == nil { return nil }
      case 1: position += 8
      case 5: position += 4
      case 2:
        guard let length = varint(bytes, &position) else { return nil }
        let end = Int(min(length, UInt64(max(bytes.count - position, 0)))) + position
        if tag >> 3 == wanted { return UnsafeRawBufferPointer(rebasing: bytes[position..<end]) }
        position = end
      default: return nil
      }
    }
    return nil
  }

  /// The field from `position` on, which moves behind it; its value where it has a length. nil when the bytes end in it.
  private static func next(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) -> (
    number: UInt64, value: UnsafeRawBufferPointer?
  )? {
    guard let tag = varint(bytes, &position) else { return nil }
    var value: UnsafeRawBufferPointer?
    switch tag & 7 {
    case 0: if varint(bytes, &position) == nil { return nil }
    case 1: position += 8
    case 5: position += 4
    case 2:
      guard let length = varint(bytes, &position), length <= UInt64(bytes.count - position) else {
        return nil
      }
      value = UnsafeRawBufferPointer(rebasing: bytes[position..<position + Int(length)])
      position += Int(length)
    default: return nil
    }
    return position <= bytes.count ? (tag >> 3, value) : nil
  }

  /// What `body` makes of each field, given its number, all of its bytes and, where it has a length, its value.
  /// - Returns: nil when the bytes are no message.
  private static func rewritten(
    _ bytes: UnsafeRawBufferPointer,
    _ body: (_ number: UInt64, _ whole: Slice<UnsafeRawBufferPointer>, UnsafeRawBufferPointer?) ->
      [UInt8]
  ) -> [UInt8]? {
    var result: [UInt8] = []
    result.reserveCapacity(bytes.count)
    var position = 0
    while position < bytes.count {
      let start = position
      guard let (number, value) = next(bytes, &position) else { return nil }
      result += body(number, bytes[start..<position], value)
    }
    return result
  }

  /// A message with the values of fields of one number replaced, where `body` gives others, and everything else as it was.
  /// - Returns: nil when the bytes are no message.
  package static func replacing(
    _ wanted: UInt64, in bytes: UnsafeRawBufferPointer,
    _ body: (UnsafeRawBufferPointer) -> [UInt8]?
  ) -> [UInt8]? {
    rewritten(bytes) { number, whole, value in
      if number == wanted, let value, let other = body(value) { return field(wanted, other) }
      return Array(whole)
    }
  }

  /// A message without fields of some numbers.
  /// - Returns: nil when the bytes are no message.
  package static func dropping(_ numbers: Set<UInt64>, of bytes: UnsafeRawBufferPointer) -> [UInt8]?
  {
    rewritten(bytes) { number, whole, _ in numbers.contains(number) ? [] : Array(whole) }
  }

  /// A field that has a length.
  package static func field(_ number: UInt64, _ value: [UInt8]) -> [UInt8] {
    func encoded(_ value: UInt64) -> [UInt8] {
      var (left, bytes) = (value, [UInt8]())
      while left > 127 {
        bytes.append(UInt8(truncatingIfNeeded: left) | 128)
        left >>= 7
      }
      return bytes + [UInt8(left)]
    }
    return encoded(number << 3 | 2) + encoded(UInt64(value.count)) + value
  }

  /// Why bytes are not decoded.
  package enum Flaw {
    /// They are no message, or too many are inside of one another.
    case damage
    /// A text has a zero byte, where the decoded one would end.
    case text(field: String)

    /// - Parameter kind: what the file should be.
    func message(_ kind: String) -> String {
      switch self {
      case .damage: "the file is damaged, nested too deep, or is not \(kind)"
      case .text(let field): "the file is damaged: field '\(field)' has a text with a zero byte"
      }
    }
  }

  /// What is wrong with a message in which no more than so many may be inside of one another.
  package static func flaw(
    _ bytes: UnsafeRawBufferPointer, _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>,
    atMost depth: Int
  ) -> Flaw? {
    var position = 0
    while position < bytes.count {
      guard let (number, value) = next(bytes, &position) else { return .damage }
      guard let value, let number = UInt32(exactly: number),
        let field = protobuf_c_message_descriptor_get_field(descriptor, number)
      else { continue }
      switch field.pointee.type {
      case PROTOBUF_C_TYPE_STRING where value.contains(0):
        return .text(field: text(field.pointee.name))
      case PROTOBUF_C_TYPE_MESSAGE:
        guard depth > 0 else { return .damage }
        let inner = field.pointee.descriptor!.assumingMemoryBound(
          to: ProtobufCMessageDescriptor.self)
        if let flaw = flaw(value, inner, atMost: depth - 1) { return flaw }
      default: break
      }
    }
    return nil
  }
}

/// The text of a string field; empty when it is absent. What is not UTF-8 is replaced.
package func text(_ pointer: UnsafePointer<CChar>?) -> String {
  pointer.map { String(cString: $0) } ?? ""
}

/// The elements of a repeated field of messages.
package func each<M>(_ count: Int, _ list: UnsafeMutablePointer<UnsafeMutablePointer<M>?>?) -> [M] {
  (0..<count).map { list![$0]!.pointee }
}

package func each<T>(_ count: Int, _ list: UnsafeMutablePointer<T>?) -> [T] {
  (0..<count).map { list![$0] }
}
