import CZlib
package import DLCTensor

/// Writes NumPy's archive member by member, each in as many parts as its writer likes: nothing but the
/// directory is held in memory. Members are stored, and the elements of each begin at a multiple of 64
/// bytes of the file, so that a reader can map them.
///
/// A regular file is written beside its place and takes its name with `commit`; without that nothing is
/// left behind. The same parts give the same bytes.
package final class NpzWriter {
  private enum Sink {
    case file(OutputFile)
    case memory
  }

  /// A member whose elements are being written.
  private struct Member {
    var name: String
    /// Of the file's name: `x.npy`.
    var file: [UInt8]
    /// Where its local header stands.
    var offset: Int
    /// The header of the array and its elements, in bytes.
    var size: Int
    var left: Int
    var checksum: UInt
    /// Whether the checksum stands behind the elements, because what comes before cannot be changed.
    var isDescribedBehind: Bool
  }

  /// Where the elements of an array begin, as a multiple of this many bytes.
  package static let alignment = 64

  private let sink: Sink
  private var position = 0
  private var directory: [UInt8] = []
  private var count = 0
  private var names: Set<String> = []
  private var member: Member?
  /// What was written, for a writer without a file.
  private var memory: [UInt8] = []

  /// - Throws: `.file` when the place cannot be opened.
  package init(_ path: String) throws(DLCError) { sink = .file(try OutputFile(path)) }

  /// Writes to memory.
  init() { sink = .memory }

  /// Adds a whole array. bfloat16, which NumPy has not, becomes float32, which holds it exactly.
  /// - Throws: as `begin`, and the array's own problem.
  package func add(_ name: String, _ given: Tensor) throws(DLCError) {
    try given.check()
    let value = given.dataType == .bfloat16 ? try given.fitted(to: .float32, name: name) : given
    try value.withUnsafeBytes { (bytes) throws(DLCError) in
      let header = try Npy.header(of: value.dataType, value.shape, name: name)
      let sum = crc32_z(
        crc32_z(0, header, header.count),
        bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count)
      try begin(name, header, value.byteCount, checksum: sum)
      member?.left = 0
      try send(bytes)
    }
    try end()
  }

  /// Begins an array, whose elements `write` then takes in row-major order.
  /// - Throws: `.unsupported` for a name that a zip file cannot hold, `.format` for one that was there,
  ///   `.file` when it cannot be written.
  package func begin(_ name: String, _ type: DataType, _ shape: [Int]) throws(DLCError) {
    try TensorType(type, sizes: shape).validate()
    try begin(
      name, try Npy.header(of: type, shape, name: name), shape.reduce(type.byteCount, *),
      checksum: nil)
  }

  private func begin(_ name: String, _ header: [UInt8], _ byteCount: Int, checksum: UInt?)
    throws(DLCError)
  {
    try end()
    guard names.insert(name).inserted else {
      throw DLCError(.format, "there are two arrays of the name '\(name.prefix(64))'")
    }
    let file = Array("\(name).npy".utf8)
    guard file.count <= 0xffff else {
      throw DLCError(
        .unsupported, "the name of '\(name.prefix(64))...' is too long for an archive")
    }
    var isDescribedBehind = false
    if checksum == nil, case .file(let output) = sink { isDescribedBehind = !output.canOverwrite }
    member = Member(
      name: name, file: file, offset: position, size: header.count + byteCount, left: byteCount,
      checksum: checksum ?? crc32_z(0, header, header.count), isDescribedBehind: isDescribedBehind)
    // The header of the array is a multiple of the alignment, and so is where it begins: an extra field
    // of zeros (0xa11e, "data stream alignment") fills up.
    let unaligned = position + 30 + file.count + 20
    var padding = (Self.alignment - unaligned % Self.alignment) % Self.alignment
    if padding != 0 && padding < 6 { padding += Self.alignment }
    var head: [UInt8] = []
    put(&head, 0x0403_4b50, 4)
    common(&head, checksum ?? 0, extra: 20 + padding)
    head += file
    put(&head, 1, 2)
    put(&head, 16, 2)
    put(&head, member!.size, 8)
    put(&head, member!.size, 8)
    if padding > 0 {
      put(&head, 0xa11e, 2)
      put(&head, padding - 4, 2)
      put(&head, Self.alignment, 2)
      head += [UInt8](repeating: 0, count: padding - 6)
    }
    try send(head + header)
  }

  /// Takes the next bytes of the array that was begun.
  package func write(_ bytes: UnsafeRawBufferPointer) throws(DLCError) {
    precondition(bytes.count <= member?.left ?? 0)
    member!.left -= bytes.count
    member!.checksum = crc32_z(
      member!.checksum, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count)
    try send(bytes)
  }

  /// Ends the array that was begun, if one was.
  /// - Throws: `.format` when its elements are not all there: what they were made of has changed.
  private func end() throws(DLCError) {
    guard let done = member else { return }
    guard done.left == 0 else {
      throw DLCError(.format, "\(done.left) bytes of '\(done.name.prefix(64))' are missing")
    }
    if done.isDescribedBehind {
      var descriptor: [UInt8] = []
      put(&descriptor, 0x0807_4b50, 4)
      put(&descriptor, Int(done.checksum), 4)
      put(&descriptor, done.size, 8)
      put(&descriptor, done.size, 8)
      try send(descriptor)
    } else {
      var checksum: [UInt8] = []
      put(&checksum, Int(done.checksum), 4)
      switch sink {
      case .file(let output):
        if output.canOverwrite { try output.overwrite(checksum, at: done.offset + 14) }
      case .memory:
        memory.replaceSubrange(done.offset + 14..<done.offset + 18, with: checksum)
      }
    }
    put(&directory, 0x0201_4b50, 4)
    put(&directory, 45, 2)
    common(&directory, done.checksum, extra: 28)
    put(&directory, 0, 2)
    put(&directory, 0, 2)
    put(&directory, 0, 2)
    put(&directory, 0o600 << 16, 4)
    put(&directory, 0xffff_ffff, 4)
    directory += done.file
    put(&directory, 1, 2)
    put(&directory, 24, 2)
    put(&directory, done.size, 8)
    put(&directory, done.size, 8)
    put(&directory, done.offset, 8)
    count += 1
    member = nil
  }

  /// Writes the directory and puts the archive in its place.
  /// - Throws: `.file` when that fails; what was there before is then as it was.
  package func commit() throws(DLCError) {
    try finish()
    if case .file(let output) = sink { try output.commit() }
  }

  /// The archive, of a writer without a file.
  func bytes() throws(DLCError) -> [UInt8] {
    try finish()
    return memory
  }

  private func finish() throws(DLCError) {
    try end()
    let start = position
    try send(directory)
    let record = position
    var tail: [UInt8] = []
    put(&tail, 0x0606_4b50, 4)
    put(&tail, 44, 8)
    put(&tail, 45, 2)
    put(&tail, 45, 2)
    put(&tail, 0, 8)
    put(&tail, count, 8)
    put(&tail, count, 8)
    put(&tail, directory.count, 8)
    put(&tail, start, 8)
    put(&tail, 0x0706_4b50, 4)
    put(&tail, 0, 4)
    put(&tail, record, 8)
    put(&tail, 1, 4)
    put(&tail, 0x0605_4b50, 4)
    put(&tail, 0, 4)
    put(&tail, min(count, 0xffff), 2)
    put(&tail, min(count, 0xffff), 2)
    put(&tail, min(directory.count, 0xffff_ffff), 4)
    put(&tail, min(start, 0xffff_ffff), 4)
    put(&tail, 0, 2)
    try send(tail)
  }

  /// What the local header and the directory say of a member alike. The sizes stand always in the ZIP64
  /// field, as numpy writes them.
  private func common(_ list: inout [UInt8], _ checksum: UInt, extra: Int) {
    let file = member!.file
    // Bit 11: the name is UTF-8. Readers take other names for code page 437. Bit 3: the checksum
    // stands behind the data.
    let flags =
      (file.allSatisfy { $0 < 128 } ? 0 : 0x800) | (member!.isDescribedBehind ? 8 : 0)
    put(&list, 45, 2)
    put(&list, flags, 2)
    put(&list, 0, 2)
    put(&list, 0, 2)
    put(&list, 0x21, 2)  // 1 January 1980
    put(&list, Int(checksum), 4)
    put(&list, 0xffff_ffff, 4)
    put(&list, 0xffff_ffff, 4)
    put(&list, file.count, 2)
    put(&list, extra, 2)
  }

  private func put(_ list: inout [UInt8], _ value: Int, _ size: Int) {
    for byte in 0..<size { list.append(UInt8(truncatingIfNeeded: value >> (8 * byte))) }
  }

  private func send(_ part: [UInt8]) throws(DLCError) {
    try part.withUnsafeBytesTyped { (bytes) throws(DLCError) in try send(bytes) }
  }

  private func send(_ part: UnsafeRawBufferPointer) throws(DLCError) {
    position += part.count
    switch sink {
    case .file(let output): try output.write(part)
    case .memory: memory += part
    }
  }
}
