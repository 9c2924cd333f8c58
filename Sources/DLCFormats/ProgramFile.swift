import CProtobufSchema
package import DLCProgram
package import DLCTensor

/// Compiled programs: a header, a protobuf envelope, then constants and code on page boundaries, which
/// are used where they are mapped.
///
/// The header is seven letters, the version of the format in a byte, the length of the envelope (8 bytes,
/// little-endian) and a digest (`Digest`) of every other byte of the file.
///
/// A program is machine code and deserves the trust that an executable does: its kernels can do whatever
/// the process may. What is guaranteed for files that were damaged, or made by something else than the
/// kernels, is that a change of any byte is noticed, that every number in the envelope is checked
/// against the others before it is used (`Program.verify`), and that reading neither traps, nor hangs,
/// nor takes more memory than a fixed multiple of the file's size.
package enum ProgramFile {
  private static let magic = Array("DLCPROG".utf8)
  private static let formatVersion: UInt8 = 5
  /// Programs of version 4 call kernels only; all else is as it is now.
  private static let readableVersions: ClosedRange<UInt8> = 4...5
  private static let page = 4096
  package static let headerSize = 32

  /// What a program file holds.
  package struct Contents {
    package var program: Program
    package var constants: TensorStorage
    package var prepared: TensorStorage?
    package var code: UnsafeRawBufferPointer
    /// Stored values of state, by name.
    package var states: [String: Tensor]
    /// The model that the program was compiled from; empty when it is not carried.
    package var module: UnsafeRawBufferPointer
    package var file: MappedFile

    /// What the keys of programs begin with that are the first part of a model.
    package static let partPrefix = "part "
    /// Whether it is the first part of a model that runs in parts, which it carries in place of a graph.
    package var isPart: Bool { program.key.hasPrefix(Self.partPrefix) }
  }

  /// Whether a file starts like a program.
  package static func isProgram(_ bytes: UnsafeRawBufferPointer) -> Bool {
    bytes.count >= headerSize && bytes[0..<7].elementsEqual(magic)
  }

  /// Writes a program; a regular file is replaced as a whole.
  package static func write(
    _ program: Program, constants: [UInt8], prepared: UnsafeRawBufferPointer?, code: [UInt8],
    states: [String: Tensor], module: [UInt8], to path: String, isPrivate: Bool = false
  ) throws(DLCError) {
    let file = try OutputFile(path, isPrivate: isPrivate)
    try encode(
      program, constants: constants, prepared: prepared, code: code, states: states,
      module: module
    ) { (part) throws(DLCError) in try file.write(part) }
    try file.commit()
  }

  package static func encode(
    _ program: Program, constants: [UInt8], prepared: UnsafeRawBufferPointer?, code: [UInt8],
    states: [String: Tensor], module: [UInt8]
  ) -> [UInt8] {
    var out: [UInt8] = []
    encode(
      program, constants: constants, prepared: prepared, code: code, states: states,
      module: module
    ) { out += $0 }
    return out
  }

  /// What follows the envelope: parts on page boundaries.
  private struct Body {
    enum Part {
      case array([UInt8])
      case memory(UnsafeRawBufferPointer)
      case tensor(Tensor)

      var count: Int {
        switch self {
        case .array(let bytes): bytes.count
        case .memory(let bytes): bytes.count
        case .tensor(let tensor): tensor.byteCount
        }
      }

      func withBytes<Failure: Error>(_ body: (UnsafeRawBufferPointer) throws(Failure) -> Void)
        throws(Failure)
      {
        switch self {
        case .array(let bytes):
          try bytes.withUnsafeBytesTyped { (bytes) throws(Failure) in try body(bytes) }
        case .memory(let bytes): try body(bytes)
        case .tensor(let tensor):
          try tensor.withUnsafeBytes { (bytes) throws(Failure) in try body(bytes) }
        }
      }
    }
    private(set) var parts: [Part] = []
    private var count = 0

    /// Adds a part; sections are addressed from the first page after the envelope.
    mutating func add(_ part: Part) -> (offset: Int, size: Int) {
      let padding = (page - count % page) % page
      if padding > 0 { parts.append(.array([UInt8](repeating: 0, count: padding))) }
      parts.append(part)
      defer { count += padding + part.count }
      return (count + padding, part.count)
    }
  }

  /// Hands out the file in parts, so that nothing large is copied.
  private static func encode<Failure: Error>(
    _ program: Program, constants: [UInt8], prepared: UnsafeRawBufferPointer?, code: [UInt8],
    states: [String: Tensor], module: [UInt8],
    _ write: (UnsafeRawBufferPointer) throws(Failure) -> Void
  ) throws(Failure) {
    var body = Body()
    var sections = ProgramEncoder.Sections(
      code: body.add(.array(code)), constants: body.add(.array(constants)))
    sections.prepared = prepared.map { body.add(.memory($0)) }
    for state in program.states {
      if let value = states[state.name] { sections.states[state.name] = body.add(.tensor(value)) }
    }
    sections.module = body.add(.array(module))
    let envelope = ProgramEncoder(arena: ProtobufArena(), sections: sections).encode(program)
    var start = magic + [formatVersion]
    for byte in 0..<8 { start.append(UInt8(truncatingIfNeeded: envelope.count >> (8 * byte))) }
    let end = headerSize + envelope.count
    let head = Body.Part.array(envelope + [UInt8](repeating: 0, count: (page - end % page) % page))
    let digest = Digest()
    digest.update(start)
    for part in [head] + body.parts { part.withBytes { digest.update($0) } }
    try Body.Part.array(start + digest.finish()).withBytes(write)
    for part in [head] + body.parts { try part.withBytes(write) }
  }

  /// The digest that the header of a file should hold.
  package static func digest(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    let digest = Digest()
    digest.update(UnsafeRawBufferPointer(rebasing: bytes[..<16]))
    digest.update(UnsafeRawBufferPointer(rebasing: bytes[headerSize...]))
    return digest.finish()
  }

  /// Maps and checks a program file.
  /// - Throws: `.format` when any byte of it has changed or its parts do not fit together,
  ///   `.unsupported` when it has another version of the format.
  package static func read(_ path: String) throws(DLCError) -> Contents {
    try read(try MappedFile(path))
  }

  package static func read(_ file: MappedFile) throws(DLCError) -> Contents {
    let (bytes, path) = (file.bytes, file.path)
    func bad(_ what: String) -> DLCError { DLCError(.format, what, at: path) }
    let reader = ByteReader(bytes: bytes, context: path)
    guard isProgram(bytes) else { throw bad("not a compiled program") }
    guard readableVersions.contains(bytes[7]) else {
      throw DLCError(
        .unsupported,
        "the program has version \(bytes[7]) of the format, this dlc runs version \(formatVersion)",
        at: path, remedy: "compile the model again")
    }
    guard digest(bytes).elementsEqual(bytes[16..<headerSize]) else {
      throw bad("the program is damaged: its digest does not match")
    }
    let size = try reader.integer(8, UInt64.self)
    let envelope = try reader.slice(headerSize, size)
    let body = (headerSize + size + page - 1) / page * page
    return try ProtobufDecoding.decode(
      envelope, dlc_program_descriptor(), as: Dlc__Program.self, path: path
    ) {
      (m) throws(DLCError) in
      func section(_ s: UnsafeMutablePointer<Dlc__Section>?) throws(DLCError)
        -> UnsafeRawBufferPointer
      {
        guard let s = s?.pointee else { throw bad("the program is damaged: a section is missing") }
        guard s.offset >= 0, s.size >= 0, s.offset <= Int64(bytes.count),
          s.size <= Int64(bytes.count)
        else {
          throw bad("the file is truncated or damaged")
        }
        return try reader.slice(body + Int(s.offset), Int(s.size))
      }
      let code = try section(m.code)
      var program = try ProgramDecoder(path: path).decode(m)
      let constants = try section(m.constants)
      program.constantBytes = constants.count
      var prepared: TensorStorage?
      if m.prepared != nil {
        let area = try section(m.prepared)
        guard area.count >= program.preparedBytes else {
          throw bad("the program is damaged: its prepared data is incomplete")
        }
        prepared = TensorStorage(borrowing: area, owner: file)
      }
      var states: [String: Tensor] = [:]
      for (message, port) in zip(each(m.n_states, m.states), program.states) {
        guard message.value != nil else { continue }
        let memory = try section(message.value)
        do throws(DLCError) { try TensorType(port.type, sizes: port.shape).validate() } catch {
          throw error.within(path)
        }
        guard memory.count == TensorType(port.type, sizes: port.shape).byteCount else {
          throw bad(
            "the program is damaged: the value of '\(port.name.prefix(64))' has the wrong size")
        }
        states[port.name] = Tensor(
          dataType: port.type, shape: port.shape,
          storage: TensorStorage(borrowing: memory, owner: file))
      }
      do throws(DLCError) { try program.verify(codeBytes: code.count) } catch {
        throw error.within(path)
      }
      return Contents(
        program: program, constants: TensorStorage(borrowing: constants, owner: file),
        prepared: prepared, code: code,
        states: states, module: try section(m.module), file: file)
    }
  }
}
