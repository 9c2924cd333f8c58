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
  private static let formatVersion: UInt8 = 4
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
    let codeSection = body.add(.array(code))
    let constantSection = body.add(.array(constants))
    let preparedSection = prepared.map { body.add(.memory($0)) }
    var stateSections: [String: (Int, Int)] = [:]
    for state in program.states {
      if let value = states[state.name] { stateSections[state.name] = body.add(.tensor(value)) }
    }
    let moduleSection = body.add(.array(module))

    let arena = ProtobufArena()
    func make(_ section: (Int, Int)) -> UnsafeMutablePointer<Dlc__Section> {
      arena.message(dlc__section__init) {
        $0.offset = Int64(section.0)
        $0.size = Int64(section.1)
      }
    }
    let message = arena.message(dlc__program__init) { m in
      m.producer = arena.string(ModuleFile.producer)
      m.name = arena.string(program.name)
      m.function = arena.string(program.function)
      m.triple = arena.string(program.triple)
      m.cpu = arena.string(program.cpu)
      (m.n_features, m.features) = (program.features.count, arena.strings(program.features))
      m.key = arena.string(program.key)
      m.schedules = arena.string(program.schedules)
      let buffers = program.buffers.map { slot in
        arena.message(dlc__buffer__init) {
          $0.dtype = arena.string(slot.type.rawValue)
          ($0.n_shape, $0.shape) = (slot.shape.count, arena.list(slot.shape.map { Int64($0) }))
          let (place, offset) = encode(slot.place)
          $0.origin = arena.string(slot.origin)
          $0.place = place
          $0.offset = Int64(offset)
          switch slot.place {
          case .slice(let base, _): $0.first = UInt32(base.index)
          case .alternating(let even, let odd, _, let next):
            $0.first = UInt32(even.index)
            $0.second = UInt32(odd.index)
            $0.next = next ? 1 : 0
          default: break
          }
        }
      }
      (m.n_buffers, m.buffers) = (buffers.count, arena.messages(buffers))
      let kernels = program.kernels.map { entry in
        arena.message(dlc__kernel_entry__init) {
          $0.name = arena.string(entry.name)
          $0.offset = Int64(entry.offset)
          $0.tiles = Int64(entry.tileCount)
          let operands = entry.operands.map { operand in
            arena.message(dlc__kernel_operand__init) {
              $0.byte_count = Int64(operand.byteCount)
              $0.written = operand.isWritten ? 1 : 0
            }
          }
          ($0.n_operands, $0.operands) = (operands.count, arena.messages(operands))
          $0.scratch_bytes = Int64(entry.scratchBytes)
        }
      }
      (m.n_kernels, m.kernels) = (kernels.count, arena.messages(kernels))
      let symbols = program.symbols.map { symbol in
        arena.message(dlc__symbol__init) {
          $0.name = arena.string(symbol.name)
          $0.offset = Int64(symbol.range.lowerBound)
          $0.size = Int64(symbol.range.count)
        }
      }
      (m.n_symbols, m.symbols) = (symbols.count, arena.messages(symbols))
      func steps(_ list: [Step]) -> [UnsafeMutablePointer<Dlc__Step>] {
        list.map { step in
          arena.message(dlc__step__init) {
            $0.kernel = UInt32(step.kernel.index)
            ($0.n_buffers, $0.buffers) = (
              step.buffers.count, arena.list(step.buffers.map { UInt32($0.index) })
            )
            $0.tiles = Int64(step.tileCount)
            ($0.n_dependencies, $0.dependencies) = (
              step.dependencies.count, arena.list(step.dependencies.map { UInt32($0.index) })
            )
            $0.name = arena.string(step.name)
            $0.flops = Int64(step.flops)
            $0.bytes_moved = Int64(step.bytesMoved)
            $0.origin = arena.string(step.origin)
          }
        }
      }
      (m.n_steps, m.steps) = (program.steps.count, arena.messages(steps(program.steps)))
      (m.n_preparation, m.preparation) = (
        program.preparation.count, arena.messages(steps(program.preparation))
      )
      func ports(_ list: [Port]) -> [UnsafeMutablePointer<Dlc__Port>] {
        list.map { port in
          arena.message(dlc__port__init) {
            $0.name = arena.string(port.name)
            $0.buffer = UInt32(port.buffer.index)
          }
        }
      }
      (m.n_inputs, m.inputs) = (program.inputs.count, arena.messages(ports(program.inputs)))
      (m.n_outputs, m.outputs) = (program.outputs.count, arena.messages(ports(program.outputs)))
      let statePorts = program.states.map { state in
        arena.message(dlc__state_port__init) {
          $0.name = arena.string(state.name)
          $0.updated = state.isUpdated ? 1 : 0
          $0.initializer = arena.string(state.initializer)
          ($0.n_arguments, $0.arguments) = (
            state.initializerArguments.count, arena.list(state.initializerArguments)
          )
          $0.parameter = state.isParameter ? 1 : 0
          $0.dtype = arena.string(state.type.rawValue)
          ($0.n_shape, $0.shape) = (state.shape.count, arena.list(state.shape.map { Int64($0) }))
          if let stored = stateSections[state.name] { $0.value = make(stored) }
        }
      }
      (m.n_states, m.states) = (statePorts.count, arena.messages(statePorts))
      let instructions = encode(program.instructions, arena)
      (m.n_instructions, m.instructions) = (instructions.count, arena.messages(instructions))
      m.loop_count = Int64(program.loopCount)
      m.arena_bytes = Int64(program.arenaBytes)
      m.arena_lower_bound = Int64(program.arenaLowerBound)
      m.prepared_bytes = Int64(program.preparedBytes)
      m.scratch_bytes = Int64(program.scratchBytes)
      m.constants = make(constantSection)
      m.prepared = preparedSection.map(make)
      m.code = make(codeSection)
      m.module = make(moduleSection)
    }
    let envelope = message.withMemoryRebound(to: ProtobufCMessage.self, capacity: 1) {
      ProtobufArena.encode($0)
    }
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

  private static func encode(_ place: BufferSlot.Place) -> (UInt32, Int) {
    switch place {
    case .input(let i): (1, i)
    case .output(let i): (2, i)
    case .state(let i): (3, i)
    case .nextState(let i): (4, i)
    case .constant(let o): (5, o)
    case .prepared(let o): (6, o)
    case .arena(let o): (7, o)
    case .slice(_, let loop): (8, loop)
    case .alternating(_, _, let loop, _): (9, loop)
    }
  }

  private static func encode(_ list: [Instruction], _ arena: ProtobufArena)
    -> [UnsafeMutablePointer<Dlc__Instruction>]
  {
    func mark(_ kind: UInt32) -> UnsafeMutablePointer<Dlc__Instruction> {
      arena.message(dlc__instruction__init) { $0.kind = kind }
    }
    return list.flatMap { instruction -> [UnsafeMutablePointer<Dlc__Instruction>] in
      switch instruction {
      case .run(let range):
        let steps = arena.message(dlc__instruction__init) {
          $0.first = Int64(range.lowerBound)
          $0.count = Int64(range.count)
        }
        return [steps]
      case .branch(let predicate, let then, let otherwise):
        let head = arena.message(dlc__instruction__init) {
          $0.kind = 3
          $0.predicate = UInt32(predicate.index)
        }
        return [head] + encode(then, arena) + [mark(4)] + encode(otherwise, arena) + [mark(5)]
      case .loop(let loop):
        let head = arena.message(dlc__instruction__init) {
          $0.kind = loop.predicate == nil ? 1 : 2
          $0.count = Int64(loop.count ?? 0)
          $0.loop = Int64(loop.id)
          $0.reverse = loop.reverse ? 1 : 0
          $0.predicate = UInt32(loop.predicate?.index ?? 0)
          let carried = loop.carried.map { carried in
            arena.message(dlc__carried__init) {
              $0.initial = UInt32(carried.initial.index)
              $0.even = UInt32(carried.even.index)
              $0.odd = UInt32(carried.odd.index)
              $0.result = UInt32(carried.result.index)
            }
          }
          ($0.n_carried, $0.carried) = (carried.count, arena.messages(carried))
        }
        return [head] + encode(loop.condition, arena) + [mark(4)] + encode(loop.body, arena)
          + [mark(5)]
      }
    }
  }

  /// Reads instructions up to a separator or an end.
  private static func decode(
    _ list: [Dlc__Instruction], _ position: inout Int, _ depth: Int, _ bad: (String) -> DLCError
  ) throws(DLCError) -> [Instruction] {
    guard depth <= 32 else { throw bad("the program is damaged: loops are nested too deep") }
    func expect(_ kind: UInt32) throws(DLCError) {
      guard position < list.count, list[position].kind == kind else {
        throw bad("the program is damaged: a loop has no end")
      }
      position += 1
    }
    var result: [Instruction] = []
    while position < list.count {
      let m = list[position]
      if m.kind == 4 || m.kind == 5 { break }
      position += 1
      if m.kind == 0 {
        guard m.first >= 0, m.count >= 0, m.first < 1 << 40, m.count < 1 << 40 else {
          throw bad("the program is damaged: a range of steps is impossible")
        }
        result.append(.run(Int(m.first)..<Int(m.first + m.count)))
        continue
      }
      guard m.kind <= 3 else { throw bad("the program is damaged: an instruction is not known") }
      let first = try decode(list, &position, depth + 1, bad)
      try expect(4)
      let second = try decode(list, &position, depth + 1, bad)
      try expect(5)
      if m.kind == 3 {
        result.append(.branch(BufferID(Int(m.predicate)), then: first, otherwise: second))
        continue
      }
      result.append(
        .loop(
          LoopInstruction(
            id: Int(m.loop), count: m.kind == 2 && m.count == 0 ? nil : Int(m.count),
            reverse: m.reverse != 0,
            predicate: m.kind == 2 ? BufferID(Int(m.predicate)) : nil, condition: first,
            carried: each(m.n_carried, m.carried).map {
              LoopInstruction.Carried(
                initial: BufferID(Int($0.initial)), even: BufferID(Int($0.even)),
                odd: BufferID(Int($0.odd)), result: BufferID(Int($0.result)))
            }, body: second)))
    }
    return result
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
    guard bytes[7] == formatVersion else {
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
      var program = try decode(m, bad)
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

  private static func decode(_ m: Dlc__Program, _ bad: (String) -> DLCError) throws(DLCError)
    -> Program
  {
    var program = Program()
    program.name = text(m.name)
    program.function = text(m.function)
    program.triple = text(m.triple)
    program.cpu = text(m.cpu)
    program.features = each(m.n_features, m.features).map { text($0) }
    program.key = text(m.key)
    program.schedules = text(m.schedules)
    func type(_ pointer: UnsafePointer<CChar>?) throws(DLCError) -> DataType {
      guard let type = DataType(rawValue: text(pointer)) else {
        throw bad("the program is damaged: an element type is not known")
      }
      return type
    }
    for slot in each(m.n_buffers, m.buffers) {
      let offset = Int(slot.offset)
      let place: BufferSlot.Place
      switch slot.place {
      case 1: place = .input(offset)
      case 2: place = .output(offset)
      case 3: place = .state(offset)
      case 4: place = .nextState(offset)
      case 5: place = .constant(offset)
      case 6: place = .prepared(offset)
      case 7: place = .arena(offset)
      case 8: place = .slice(BufferID(Int(slot.first)), loop: offset)
      case 9:
        place = .alternating(
          BufferID(Int(slot.first)), BufferID(Int(slot.second)), loop: offset, next: slot.next != 0)
      default: throw bad("the program is damaged: a buffer has no place")
      }
      var buffer = BufferSlot(
        try type(slot.dtype), each(slot.n_shape, slot.shape).map { Int($0) }, place)
      buffer.origin = text(slot.origin)
      program.buffers.append(buffer)
    }
    program.kernels = each(m.n_kernels, m.kernels).map { kernel in
      KernelEntry(
        text(kernel.name), Int(kernel.offset), tileCount: Int(kernel.tiles),
        operands: each(kernel.n_operands, kernel.operands).map {
          KernelEntry.Operand(Int($0.byte_count), isWritten: $0.written != 0)
        }, scratchBytes: Int(kernel.scratch_bytes))
    }
    for symbol in each(m.n_symbols, m.symbols) {
      guard symbol.offset >= 0, symbol.size >= 0, symbol.offset <= 1 << 40, symbol.size <= 1 << 40
      else { throw bad("the program is damaged: a symbol lies nowhere") }
      program.symbols.append(
        CodeSymbol(
          text(symbol.name), Int(symbol.offset)..<Int(symbol.offset) + Int(symbol.size)))
    }
    func steps(_ list: [Dlc__Step]) -> [Step] {
      list.map { step in
        var made = Step(
          kernel: KernelID(Int(step.kernel)),
          buffers: each(step.n_buffers, step.buffers).map { BufferID(Int($0)) },
          tileCount: Int(step.tiles),
          dependencies: each(step.n_dependencies, step.dependencies).map { StepID(Int($0)) },
          name: text(step.name), flops: Int(step.flops), bytesMoved: Int(step.bytes_moved))
        made.origin = text(step.origin)
        return made
      }
    }
    program.steps = steps(each(m.n_steps, m.steps))
    program.preparation = steps(each(m.n_preparation, m.preparation))
    program.inputs = each(m.n_inputs, m.inputs).map {
      Port(text($0.name), BufferID(Int($0.buffer)))
    }
    program.outputs = each(m.n_outputs, m.outputs).map {
      Port(text($0.name), BufferID(Int($0.buffer)))
    }
    for state in each(m.n_states, m.states) {
      program.states.append(
        StatePort(
          name: text(state.name), type: try type(state.dtype),
          shape: each(state.n_shape, state.shape).map { Int($0) },
          isUpdated: state.updated != 0, initializer: text(state.initializer),
          initializerArguments: each(state.n_arguments, state.arguments),
          isParameter: state.parameter != 0))
    }
    var position = 0
    let instructions = each(m.n_instructions, m.instructions)
    program.instructions = try decode(instructions, &position, 0, bad)
    guard position == instructions.count else {
      throw bad("the program is damaged: an end has no beginning")
    }
    program.loopCount = Int(m.loop_count)
    (program.arenaBytes, program.arenaLowerBound) = (Int(m.arena_bytes), Int(m.arena_lower_bound))
    (program.preparedBytes, program.scratchBytes) = (Int(m.prepared_bytes), Int(m.scratch_bytes))
    return program
  }
}
