package import DLCGraph
package import DLCKernel
package import DLCProgram
import DLCTensor

/// A program with the kernels that are still to be compiled and the constants that go with it.
package struct AssembledProgram: Sendable {
  package var program: Program
  package var kernels: [Kernel]
  package var constants: [UInt8]
}

/// Orders kernels into steps, gives every value a buffer, and places the buffers.
package struct ProgramAssembly {
  private let graph: Graph
  private var program = Program()
  private var kernels: [Kernel] = []
  private var kernelIDs: [String: KernelID] = [:]
  private var constants: [UInt8] = []
  private var bufferOf: [Key: BufferID] = [:]
  private var draft: [DraftStep] = []

  private enum Key: Hashable {
    case value(ValueID)
    case port(GraphPort)
    case temporary(region: Int, number: Int)
  }

  private struct DraftStep {
    var step: Step
    var reads: [BufferID]
    var writes: [BufferID]
    var inPlace: [(input: BufferID, output: BufferID)]
    var isPreparation: Bool
  }

  /// - Parameter initializers: encoded initialisers and roles of the states that the graph reads.
  package static func assemble(
    _ graph: Graph, _ lowered: [(Region, LoweredRegion)], states: [StatePort]
  ) -> AssembledProgram {
    var assembly = ProgramAssembly(graph: graph)
    return assembly.run(lowered, states)
  }

  private init(graph: Graph) { self.graph = graph }

  private mutating func buffer(_ type: DataType, _ shape: [Int], _ place: BufferSlot.Place)
    -> BufferID
  {
    program.buffers.append(BufferSlot(type, shape, place))
    return BufferID(program.buffers.count - 1)
  }

  private mutating func run(_ lowered: [(Region, LoweredRegion)], _ states: [StatePort])
    -> AssembledProgram
  {
    program.states = states
    for (index, state) in states.enumerated()
    where graph.updates.contains(where: { $0.name == state.name }) {
      program.states[index].isUpdated = true
    }
    for (argument, value) in zip(graph.arguments, graph.argumentValues) {
      let type = graph.type(value)
      switch argument.kind {
      case .input:
        let id = buffer(type.dataType, type.sizes, .input(program.inputs.count))
        program.inputs.append(Port(argument.name, id))
        bufferOf[.value(value)] = id
      case .state:
        let position = states.firstIndex { $0.name == argument.name }!
        bufferOf[.value(value)] = buffer(type.dataType, type.sizes, .state(position))
      }
    }
    for (index, result) in graph.results.enumerated() {
      let type = graph.type(result.value)
      let id = buffer(type.dataType, type.sizes, .output(index))
      program.outputs.append(Port(result.name, id))
      bufferOf[.port(.result(index))] = id
    }
    for (index, update) in graph.updates.enumerated() {
      let type = graph.type(update.value)
      let position = states.firstIndex { $0.name == update.name }!
      bufferOf[.port(.update(index))] = buffer(type.dataType, type.sizes, .nextState(position))
    }
    for (number, (region, kernels)) in lowered.enumerated() { addSteps(region, kernels, number) }
    separatePreparation()
    placeArena()
    program.constantBytes = constants.count
    return AssembledProgram(program: program, kernels: kernels, constants: constants)
  }

  /// The buffer that holds a value; arena buffers are placed later.
  private mutating func buffer(for value: ValueID) -> BufferID {
    if let known = bufferOf[.value(value)] { return known }
    let type = graph.type(value)
    if let node = graph.definition(value), case .constant(let tensor) = graph.structure(node) {
      while constants.count % 64 != 0 { constants.append(0) }
      let offset = constants.count
      tensor.withUnsafeBytes { constants += $0 }
      let id = buffer(type.dataType, type.sizes, .constant(offset))
      bufferOf[.value(value)] = id
      return id
    }
    let id = buffer(type.dataType, type.sizes, .arena(0))
    bufferOf[.value(value)] = id
    return id
  }

  private mutating func addSteps(_ region: Region, _ lowered: LoweredRegion, _ number: Int) {
    for output in region.outputs {
      // A value that leaves through a port is read from there too.
      if let port = output.port,
        region.members.contains(graph.definitions[output.value.index] ?? NodeID(-1))
      {
        bufferOf[.value(output.value)] = bufferOf[.port(port)]!
      }
    }
    for call in lowered.calls {
      var (buffers, reads, writes) = ([BufferID](), [BufferID](), [BufferID]())
      for (index, binding) in call.bindings.enumerated() {
        let id: BufferID
        switch binding {
        case .value(let value): id = buffer(for: value)
        case .destination(let destination):
          id = destination.port.map { bufferOf[.port($0)]! } ?? buffer(for: destination.value)
        case .temporary(let slot):
          let key = Key.temporary(region: number, number: slot)
          if let known = bufferOf[key] {
            id = known
          } else {
            let local = lowered.temporaries[slot]
            id = buffer(local.type, [local.count], .arena(0))
            bufferOf[key] = id
          }
        }
        buffers.append(id)
        if call.kernel.parameters[index].isOutput { writes.append(id) } else { reads.append(id) }
      }
      let kernel: KernelID
      if let known = kernelIDs[call.kernel.name] {
        kernel = known
      } else {
        kernel = KernelID(kernels.count)
        kernels.append(call.kernel)
        kernelIDs[call.kernel.name] = kernel
      }
      let step = Step(
        kernel: kernel, buffers: buffers, tileCount: call.kernel.tileCount, dependencies: [],
        name: call.kernel.name, flops: call.kernel.flops, bytesMoved: call.kernel.bytesMoved)
      draft.append(
        DraftStep(
          step: step, reads: reads, writes: writes,
          inPlace: call.inPlace.map { (buffers[$0.input], buffers[$0.output]) },
          isPreparation: false))
    }
  }

  // MARK: Preparation

  /// Steps that only read constants, state that no run updates, and what such steps wrote, run once.
  private mutating func separatePreparation() {
    var steady: Set<BufferID> = []
    for (index, slot) in program.buffers.enumerated() {
      switch slot.place {
      case .constant: steady.insert(BufferID(index))
      case .state(let i): if !program.states[i].isUpdated { steady.insert(BufferID(index)) }
      default: break
      }
    }
    var writers: [BufferID: [Int]] = [:]
    for (index, step) in draft.enumerated() {
      for id in step.writes { writers[id, default: []].append(index) }
    }
    for (index, step) in draft.enumerated() {
      let isArena = step.writes.allSatisfy {
        if case .arena = program[$0].place { true } else { false }
      }
      guard isArena, step.reads.allSatisfy({ steady.contains($0) }) else { continue }
      draft[index].isPreparation = true
      for id in step.writes where writers[id]!.allSatisfy({ draft[$0].isPreparation }) {
        steady.insert(id)
      }
    }
    // A buffer that several steps fill is prepared by all of them or by none.
    var changed = true
    while changed {
      changed = false
      for (index, step) in draft.enumerated() where step.isPreparation {
        if step.writes.contains(where: { writers[$0]!.contains { !draft[$0].isPreparation } })
          || step.reads.contains(where: {
            (writers[$0] ?? []).contains { !draft[$0].isPreparation }
          })
        {
          draft[index].isPreparation = false
          changed = true
        }
      }
    }
    var offset = 0
    for step in draft where step.isPreparation {
      for id in step.writes {
        guard case .arena = program[id].place else { continue }
        program.buffers[id.index].place = .prepared(offset)
        offset += (program[id].byteCount + 63) / 64 * 64
      }
    }
    program.preparedBytes = offset
    program.preparation = linked(draft.filter(\.isPreparation), extra: [:])
    draft.removeAll(where: \.isPreparation)
  }

  // MARK: Arena

  private mutating func placeArena() {
    // Live from the first to the last step that touches a buffer.
    var order: [BufferID] = []
    var ranges: [BufferID: LiveRange] = [:]
    for (index, step) in draft.enumerated() {
      for id in step.reads + step.writes {
        guard case .arena = program[id].place else { continue }
        if ranges[id] == nil {
          order.append(id)
          ranges[id] = LiveRange(size: program[id].byteCount, first: index, last: index)
        }
        ranges[id]!.last = index
      }
    }
    // An output takes over the bytes of an input that dies in the same step.
    var owner: [BufferID: BufferID] = [:]
    func root(_ id: BufferID) -> BufferID { owner[id].map { root($0) } ?? id }
    for (index, step) in draft.enumerated() {
      var taken: Set<BufferID> = []
      for (input, output) in step.inPlace {
        guard let dying = ranges[root(input)], let born = ranges[output], owner[output] == nil,
          dying.last == index,
          ranges[input]?.last == index, born.first == index, dying.size == born.size,
          root(input) != root(output),
          taken.insert(root(input)).inserted, !taken.contains(output),
          // Nobody else in this step reads the input in another way.
          step.reads.filter({ root($0) == root(input) }).count == 1
        else { continue }
        let keeper = root(input)
        owner[output] = keeper
        ranges[keeper]!.last = born.last
        taken.insert(output)
      }
    }
    let keepers = order.filter { owner[$0] == nil }
    let placement = BufferPlacement(keepers.map { ranges[$0]! })
    program.arenaBytes = placement.peak
    program.arenaLowerBound = placement.lowerBound
    var offsets: [BufferID: Int] = [:]
    for (id, offset) in zip(keepers, placement.offsets) { offsets[id] = offset }
    for id in order { program.buffers[id.index].place = .arena(offsets[root(id)]!) }
    // Bytes pass from one buffer to another only in an order that dependencies enforce.
    var extra: [Int: Set<Int>] = [:]
    let touched = Dictionary(
      grouping: draft.indices.flatMap { index in
        (draft[index].reads + draft[index].writes).map { (root($0), index) }
      }, by: \.0
    )
    .mapValues { Set($0.map(\.1)).sorted() }
    for (position, late) in keepers.enumerated() {
      for early in keepers[..<position] + keepers[(position + 1)...] {
        let (a, b) = (ranges[early]!, ranges[late]!)
        guard a.last < b.first else { continue }
        let (x, y) = (offsets[early]!, offsets[late]!)
        if x < y + b.size && y < x + a.size {
          extra[b.first, default: []].formUnion(touched[early]!)
        }
      }
    }
    program.steps = linked(draft, extra: extra)
    program.scratchBytes = kernels.map(\.localOffsets.total).max() ?? 0
  }

  /// Steps with their dependencies: readers after writers, writers after earlier readers and writers of the same buffer.
  private func linked(_ list: [DraftStep], extra: [Int: Set<Int>]) -> [Step] {
    var (writers, readers) = ([BufferID: [Int]](), [BufferID: [Int]]())
    var ancestors: [Set<Int>] = []
    var steps: [Step] = []
    for (index, entry) in list.enumerated() {
      var needed = extra[index] ?? []
      for id in entry.reads { needed.formUnion(writers[id] ?? []) }
      for id in entry.writes {
        needed.formUnion(readers[id] ?? [])
        needed.formUnion(writers[id] ?? [])
      }
      // An in-place output also follows every other reader of the bytes that it takes.
      for (input, _) in entry.inPlace { needed.formUnion(readers[input] ?? []) }
      needed.remove(index)
      for id in entry.reads { readers[id, default: []].append(index) }
      for id in entry.writes { writers[id, default: []].append(index) }
      // What another dependency implies is left out.
      let direct = needed.filter { candidate in
        !needed.contains { $0 != candidate && ancestors[$0].contains(candidate) }
      }
      ancestors.append(needed.reduce(into: needed) { $0.formUnion(ancestors[$1]) })
      var step = entry.step
      step.dependencies = direct.sorted().map { StepID($0) }
      steps.append(step)
    }
    return steps
  }
}
