import CProtobufSchema
import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Memory for a tree of protobuf-c structures that is being encoded.
final class ProtobufArena {
  private var blocks: [UnsafeMutableRawPointer] = []

  deinit { for block in blocks { block.deallocate() } }

  private func allocate(_ size: Int, _ alignment: Int) -> UnsafeMutableRawPointer {
    let block = UnsafeMutableRawPointer.allocate(byteCount: max(size, 1), alignment: alignment)
    blocks.append(block)
    return block
  }

  func string(_ text: String) -> UnsafeMutablePointer<CChar> {
    let bytes = text.utf8CString
    let block = allocate(bytes.count, 1).bindMemory(to: CChar.self, capacity: bytes.count)
    for (index, byte) in bytes.enumerated() { block[index] = byte }
    return block
  }

  /// A structure in its initial state.
  func message<M>(_ initialise: (UnsafeMutablePointer<M>?) -> Void, _ fill: (inout M) -> Void)
    -> UnsafeMutablePointer<M>
  {
    let block = allocate(MemoryLayout<M>.size, MemoryLayout<M>.alignment).bindMemory(
      to: M.self, capacity: 1)
    initialise(block)
    fill(&block.pointee)
    return block
  }

  /// The array form of a repeated field.
  func list<T>(_ values: [T]) -> UnsafeMutablePointer<T>? {
    if values.isEmpty { return nil }
    let block = allocate(values.count * MemoryLayout<T>.stride, MemoryLayout<T>.alignment)
      .bindMemory(to: T.self, capacity: values.count)
    block.initialize(from: values, count: values.count)
    return block
  }

  /// A repeated field of messages.
  func messages<M>(_ values: [UnsafeMutablePointer<M>]) -> UnsafeMutablePointer<
    UnsafeMutablePointer<M>?
  >? {
    list(values.map { Optional($0) })
  }

  func strings(_ values: [String]) -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? {
    list(values.map { Optional(string($0)) })
  }

  func binary(_ tensor: Tensor) -> ProtobufCBinaryData {
    let block = allocate(tensor.byteCount, 1)
    tensor.withUnsafeBytes {
      if !$0.isEmpty { block.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    }
    return ProtobufCBinaryData(
      len: tensor.byteCount, data: block.assumingMemoryBound(to: UInt8.self))
  }

  /// The encoding of a message.
  static func encode(_ message: UnsafePointer<ProtobufCMessage>) -> [UInt8] {
    let size = protobuf_c_message_get_packed_size(message)
    return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      count = size == 0 ? 0 : protobuf_c_message_pack(message, buffer.baseAddress)
    }
  }
}

/// Decodes messages with an allocator that gives out a bounded number of bytes.
enum ProtobufDecoding {
  private struct Budget {
    var remaining: Int
  }

  /// Unpacks, hands the message to `body`, and frees it.
  /// - Throws: `.format` when the bytes are no such message or ask for too much memory.
  static func decode<M, R>(
    _ bytes: UnsafeRawBufferPointer, _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>,
    as: M.Type,
    path: String, _ body: (M) throws(DLCError) -> R
  ) throws(DLCError) -> R {
    // A field takes at least two bytes on the wire; structures are larger, but real files hold text.
    let budget = UnsafeMutablePointer<Budget>.allocate(capacity: 1)
    budget.initialize(to: Budget(remaining: bytes.count * 48 + 65536))
    defer { budget.deallocate() }
    var allocator = ProtobufCAllocator(
      alloc: { data, size in
        let budget = data!.assumingMemoryBound(to: Budget.self)
        guard size <= budget.pointee.remaining else { return nil }
        budget.pointee.remaining -= size
        // protobuf-c relies on the caller for alignment only; zeroed memory keeps it predictable.
        return calloc(1, max(size, 1))
      },
      free: { _, pointer in Glibc.free(pointer) }, allocator_data: UnsafeMutableRawPointer(budget))
    let message = protobuf_c_message_unpack(
      descriptor, &allocator, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
    guard let message else {
      throw DLCError(.format, "the file is damaged or is not a dlc file", at: path)
    }
    defer { protobuf_c_message_free_unpacked(message, &allocator) }
    return try body(UnsafeRawPointer(message).assumingMemoryBound(to: M.self).pointee)
  }
}

func text(_ pointer: UnsafePointer<CChar>?) -> String { pointer.map { String(cString: $0) } ?? "" }

/// The elements of a repeated field of messages.
func each<M>(_ count: Int, _ list: UnsafeMutablePointer<UnsafeMutablePointer<M>?>?) -> [M] {
  (0..<count).map { list![$0]!.pointee }
}

func each<T>(_ count: Int, _ list: UnsafeMutablePointer<T>?) -> [T] {
  (0..<count).map { list![$0] }
}
