import CProtobufSchema
import DLCProgram
import DLCTensor

/// Writes the envelope of a program file: all of a program but its constants and code.
struct ProgramEncoder {
  /// Where the parts behind the envelope lie.
  struct Sections {
    typealias Place = (offset: Int, size: Int)
    var code: Place
    var constants: Place
    var prepared: Place?
    /// Stored values, by the names of their states.
    var states: [String: Place] = [:]
    var module: Place = (0, 0)
  }

  let arena: ProtobufArena
  let sections: Sections

  func encode(_ program: Program) -> [UInt8] {
    let message = arena.message(dlc__program__init) { m in
      m.producer = arena.string(ModuleFile.producer)
      m.name = arena.string(program.name)
      m.function = arena.string(program.function)
      m.triple = arena.string(program.triple)
      m.cpu = arena.string(program.cpu)
      (m.n_features, m.features) = (program.features.count, arena.strings(program.features))
      m.key = arena.string(program.key)
      m.schedules = arena.string(program.schedules)
      (m.n_buffers, m.buffers) = list(program.buffers, buffer)
      (m.n_kernels, m.kernels) = list(program.kernels, kernel)
      (m.n_host_functions, m.host_functions) = list(program.hostFunctions) { entry in
        arena.message(dlc__host_function__init) {
          $0.name = arena.string(entry.name)
          ($0.n_operands, $0.operands) = list(entry.operands, operand)
        }
      }
      (m.n_symbols, m.symbols) = list(program.symbols) { symbol in
        arena.message(dlc__symbol__init) {
          $0.name = arena.string(symbol.name)
          $0.offset = Int64(symbol.range.lowerBound)
          $0.size = Int64(symbol.range.count)
        }
      }
      (m.n_steps, m.steps) = list(program.steps, step)
      (m.n_preparation, m.preparation) = list(program.preparation, step)
      (m.n_inputs, m.inputs) = list(program.inputs, port)
      (m.n_outputs, m.outputs) = list(program.outputs, port)
      (m.n_states, m.states) = list(program.states, state)
      let instructions = instructions(program.instructions)
      (m.n_instructions, m.instructions) = (instructions.count, arena.messages(instructions))
      m.loop_count = Int64(program.loopCount)
      m.arena_bytes = Int64(program.arenaBytes)
      m.arena_lower_bound = Int64(program.arenaLowerBound)
      m.prepared_bytes = Int64(program.preparedBytes)
      m.scratch_bytes = Int64(program.scratchBytes)
      m.constants = section(sections.constants)
      m.prepared = sections.prepared.map(section)
      m.code = section(sections.code)
      m.module = section(sections.module)
    }
    return message.withMemoryRebound(to: ProtobufCMessage.self, capacity: 1) {
      ProtobufArena.encode($0)
    }
  }

  private func list<Element, Message>(
    _ elements: [Element], _ encode: (Element) -> UnsafeMutablePointer<Message>
  ) -> (Int, UnsafeMutablePointer<UnsafeMutablePointer<Message>?>?) {
    (elements.count, arena.messages(elements.map(encode)))
  }

  private func section(_ place: Sections.Place) -> UnsafeMutablePointer<Dlc__Section> {
    arena.message(dlc__section__init) {
      $0.offset = Int64(place.offset)
      $0.size = Int64(place.size)
    }
  }

  private func buffer(_ slot: BufferSlot) -> UnsafeMutablePointer<Dlc__Buffer> {
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

  private func encode(_ place: BufferSlot.Place) -> (UInt32, Int) {
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

  private func kernel(_ entry: KernelEntry) -> UnsafeMutablePointer<Dlc__KernelEntry> {
    arena.message(dlc__kernel_entry__init) {
      $0.name = arena.string(entry.name)
      $0.offset = Int64(entry.offset)
      $0.tiles = Int64(entry.tileCount)
      ($0.n_operands, $0.operands) = list(entry.operands, operand)
      $0.scratch_bytes = Int64(entry.scratchBytes)
    }
  }

  private func operand(_ access: OperandAccess) -> UnsafeMutablePointer<Dlc__KernelOperand> {
    arena.message(dlc__kernel_operand__init) {
      $0.byte_count = Int64(access.byteCount)
      $0.written = access.isWritten ? 1 : 0
    }
  }

  private func step(_ step: Step) -> UnsafeMutablePointer<Dlc__Step> {
    arena.message(dlc__step__init) {
      switch step.kind {
      case .kernel(let id): $0.kernel = UInt32(id.index)
      case .hostCall(let id):
        $0.kind = 1
        $0.host_function = UInt32(id.index)
      }
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

  private func port(_ port: Port) -> UnsafeMutablePointer<Dlc__Port> {
    arena.message(dlc__port__init) {
      $0.name = arena.string(port.name)
      $0.buffer = UInt32(port.buffer.index)
    }
  }

  private func state(_ state: StatePort) -> UnsafeMutablePointer<Dlc__StatePort> {
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
      $0.value = sections.states[state.name].map(section)
    }
  }

  private func instructions(_ list: [Instruction]) -> [UnsafeMutablePointer<Dlc__Instruction>] {
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
        return [head] + instructions(then) + [mark(4)] + instructions(otherwise) + [mark(5)]
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
        return [head] + instructions(loop.condition) + [mark(4)] + instructions(loop.body)
          + [mark(5)]
      }
    }
  }
}
