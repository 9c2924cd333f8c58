import CProtobufSchema
import DLCProgram
import DLCTensor

/// Reads the envelope of a program file. Numbers are checked against each other afterwards
/// (`Program.verify`).
struct ProgramDecoder {
  let path: String

  private func damaged(_ what: String) -> DLCError {
    DLCError(.format, "the program is damaged: \(what)", at: path)
  }

  func decode(_ m: Dlc__Program) throws(DLCError) -> Program {
    var program = Program()
    program.name = text(m.name)
    program.function = text(m.function)
    program.triple = text(m.triple)
    program.cpu = text(m.cpu)
    program.features = each(m.n_features, m.features).map { text($0) }
    program.key = text(m.key)
    program.schedules = text(m.schedules)
    for slot in each(m.n_buffers, m.buffers) { program.buffers.append(try buffer(slot)) }
    program.kernels = each(m.n_kernels, m.kernels).map(kernel)
    program.hostFunctions = each(m.n_host_functions, m.host_functions).map {
      HostFunctionEntry(text($0.name), operands: each($0.n_operands, $0.operands).map(operand))
    }
    for symbol in each(m.n_symbols, m.symbols) {
      guard symbol.offset >= 0, symbol.size >= 0, symbol.offset <= 1 << 40, symbol.size <= 1 << 40
      else { throw damaged("a symbol lies nowhere") }
      program.symbols.append(
        CodeSymbol(
          text(symbol.name), Int(symbol.offset)..<Int(symbol.offset) + Int(symbol.size)))
    }
    for message in each(m.n_steps, m.steps) { program.steps.append(try step(message)) }
    for message in each(m.n_preparation, m.preparation) {
      program.preparation.append(try step(message))
    }
    program.inputs = each(m.n_inputs, m.inputs).map(port)
    program.outputs = each(m.n_outputs, m.outputs).map(port)
    for message in each(m.n_states, m.states) { program.states.append(try state(message)) }
    var position = 0
    let list = each(m.n_instructions, m.instructions)
    program.instructions = try instructions(list, &position, 0)
    guard position == list.count else { throw damaged("an end has no beginning") }
    program.loopCount = Int(m.loop_count)
    (program.arenaBytes, program.arenaLowerBound) = (Int(m.arena_bytes), Int(m.arena_lower_bound))
    (program.preparedBytes, program.scratchBytes) = (Int(m.prepared_bytes), Int(m.scratch_bytes))
    return program
  }

  private func type(_ pointer: UnsafePointer<CChar>?) throws(DLCError) -> DataType {
    guard let type = DataType(rawValue: text(pointer)) else {
      throw damaged("an element type is not known")
    }
    return type
  }

  private func buffer(_ slot: Dlc__Buffer) throws(DLCError) -> BufferSlot {
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
    default: throw damaged("a buffer has no place")
    }
    var buffer = BufferSlot(
      try type(slot.dtype), each(slot.n_shape, slot.shape).map { Int($0) }, place)
    buffer.origin = text(slot.origin)
    return buffer
  }

  private func kernel(_ kernel: Dlc__KernelEntry) -> KernelEntry {
    KernelEntry(
      text(kernel.name), Int(kernel.offset), tileCount: Int(kernel.tiles),
      operands: each(kernel.n_operands, kernel.operands).map(operand),
      scratchBytes: Int(kernel.scratch_bytes))
  }

  private func operand(_ operand: Dlc__KernelOperand) -> OperandAccess {
    OperandAccess(Int(operand.byte_count), isWritten: operand.written != 0)
  }

  private func step(_ step: Dlc__Step) throws(DLCError) -> Step {
    let kind: Step.Kind
    switch step.kind {
    case 0: kind = .kernel(KernelID(Int(step.kernel)))
    case 1: kind = .hostCall(HostFunctionID(Int(step.host_function)))
    default: throw damaged("the kind of a step is not known")
    }
    var made = Step(
      kind,
      buffers: each(step.n_buffers, step.buffers).map { BufferID(Int($0)) },
      tileCount: Int(step.tiles),
      dependencies: each(step.n_dependencies, step.dependencies).map { StepID(Int($0)) },
      name: text(step.name), flops: Int(step.flops), bytesMoved: Int(step.bytes_moved))
    made.origin = text(step.origin)
    return made
  }

  private func port(_ port: Dlc__Port) -> Port {
    Port(text(port.name), BufferID(Int(port.buffer)))
  }

  private func state(_ state: Dlc__StatePort) throws(DLCError) -> StatePort {
    StatePort(
      name: text(state.name), type: try type(state.dtype),
      shape: each(state.n_shape, state.shape).map { Int($0) },
      isUpdated: state.updated != 0, initializer: text(state.initializer),
      initializerArguments: each(state.n_arguments, state.arguments),
      isParameter: state.parameter != 0)
  }

  /// Reads instructions up to a separator or an end.
  private func instructions(
    _ list: [Dlc__Instruction], _ position: inout Int, _ depth: Int
  ) throws(DLCError) -> [Instruction] {
    guard depth <= 32 else { throw damaged("loops are nested too deep") }
    func expect(_ kind: UInt32) throws(DLCError) {
      guard position < list.count, list[position].kind == kind else {
        throw damaged("a loop has no end")
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
          throw damaged("a range of steps is impossible")
        }
        result.append(.run(Int(m.first)..<Int(m.first + m.count)))
        continue
      }
      guard m.kind <= 3 else { throw damaged("an instruction is not known") }
      let first = try instructions(list, &position, depth + 1)
      try expect(4)
      let second = try instructions(list, &position, depth + 1)
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
}
