package import DLCGraph
package import DLCKernel
package import DLCProgram
import DLCTensor

/// A program with the kernels that are still to be compiled and the constants that go with it.
package struct AssembledProgram: Sendable {
  package var program: Program
  package var kernels: [Kernel]
  package var constants: [UInt8]
  /// Of each kernel that was merged from others their names, in order.
  package var sections: [String: [String]]
}

/// Orders kernels into steps, gives every value a buffer, and places the buffers. The graphs that
/// control flow holds become parts of the same program.
package struct ProgramAssembly {
  let target: Target
  var program = Program()
  /// For each step of the program.
  var drafts: [Draft] = []
  var storage = StorageMap()
  var kernels: [Kernel] = []
  private var kernelIDs: [String: KernelID] = [:]
  private var constants: [UInt8] = []
  var sections: [String: [String]] = [:]

  enum Key: Hashable {
    case value(ValueID)
    case port(GraphPort)
    case temporary(region: Int, number: Int)
  }

  /// A graph that is being assembled, and where its values lie.
  struct Scope {
    var graph: Graph
    var bufferOf: [Key: BufferID] = [:]
    /// Each run is of one step while the program is being assembled.
    var instructions: [Instruction] = []
  }

  /// What is known of a step only while the program is being assembled.
  struct Draft {
    var inPlace: [(input: BufferID, output: BufferID)]
    /// Whether it is one loop nest over elements, so that others can stand beside it in a kernel.
    var isMap: Bool
  }

  /// - Parameter states: the states that the graph reads or updates.
  package static func assemble(
    _ plan: GraphPlan, states: [StatePort], _ target: Target
  ) -> AssembledProgram {
    var assembly = ProgramAssembly(target: target)
    return assembly.run(plan, states)
  }

  private init(target: Target) { self.target = target }

  mutating func buffer(
    _ type: DataType, _ shape: [Int], _ place: BufferSlot.Place, of origin: String = ""
  ) -> BufferID {
    var slot = BufferSlot(type, shape, place)
    slot.origin = origin
    program.buffers.append(slot)
    return BufferID(program.buffers.count - 1)
  }

  private mutating func run(_ plan: GraphPlan, _ states: [StatePort]) -> AssembledProgram {
    let graph = plan.graph
    var scope = Scope(graph: graph)
    program.states = states
    let position = Dictionary(
      uniqueKeysWithValues: states.enumerated().map { ($0.element.name, $0.offset) })
    for update in graph.updates { program.states[position[update.name]!].isUpdated = true }
    for (argument, value) in zip(graph.arguments, graph.argumentValues) {
      let type = graph.type(value)
      switch argument.kind {
      case .input:
        let id = buffer(
          type.dataType, type.sizes, .input(program.inputs.count), of: argument.name)
        program.inputs.append(Port(argument.name, id))
        scope.bufferOf[.value(value)] = id
      case .state:
        scope.bufferOf[.value(value)] = buffer(
          type.dataType, type.sizes, .state(position[argument.name]!), of: argument.name)
      case .captured: preconditionFailure("functions capture nothing")
      }
    }
    for (index, result) in graph.results.enumerated() {
      let type = graph.type(result.value)
      let id = buffer(type.dataType, type.sizes, .output(index), of: result.name)
      program.outputs.append(Port(result.name, id))
      scope.bufferOf[.port(.result(index))] = id
    }
    for (index, update) in graph.updates.enumerated() {
      let type = graph.type(update.value)
      scope.bufferOf[.port(.update(index))] = buffer(
        type.dataType, type.sizes, .nextState(position[update.name]!), of: update.name)
    }
    addRegions(plan, &scope)
    prepare(&scope.instructions)
    updateInPlace(scope.instructions)
    linearize(scope.instructions)
    program = ProgramPlacement.place(program, drafts.map(\.inPlace), currentStorage())
    dropUnusedKernels()
    program.scratchBytes = kernels.map(\.localOffsets.total).max() ?? 0
    program.constantBytes = constants.count
    return AssembledProgram(
      program: program, kernels: kernels, constants: constants, sections: sections)
  }

  /// Kernels that became sections of others are not called themselves.
  private mutating func dropUnusedKernels() {
    let used = Set((program.steps + program.preparation).compactMap(\.kernel)).sorted {
      $0.index < $1.index
    }
    let number = Dictionary(
      uniqueKeysWithValues: used.enumerated().map { ($0.element, KernelID($0.offset)) })
    kernels = used.map { kernels[$0.index] }
    program.kernels = used.map { program.kernels[$0.index] }
    func renumber(_ steps: inout [Step]) {
      for index in steps.indices {
        if let kernel = steps[index].kernel { steps[index].kind = .kernel(number[kernel]!) }
      }
    }
    renumber(&program.steps)
    renumber(&program.preparation)
  }

  /// The buffer that holds a value; arena buffers are placed later.
  private mutating func buffer(for value: ValueID, _ scope: inout Scope) -> BufferID {
    if let known = scope.bufferOf[.value(value)] { return known }
    let type = scope.graph.type(value)
    if let node = scope.graph.definition(value),
      case .constant(let tensor) = scope.graph.structure(node)
    {
      while constants.count % 64 != 0 { constants.append(0) }
      let offset = constants.count
      tensor.withUnsafeBytes { constants += $0 }
      let id = buffer(type.dataType, type.sizes, .constant(offset))
      scope.bufferOf[.value(value)] = id
      return id
    }
    let node = scope.graph.definition(value)
    let origin = [node?.operation.mnemonic, node?.name].compactMap(\.self).filter { !$0.isEmpty }
    let id = buffer(
      type.dataType, type.sizes, .arena(0), of: origin.joined(separator: " of "))
    scope.bufferOf[.value(value)] = id
    return id
  }

  private mutating func addRegions(_ plan: GraphPlan, _ scope: inout Scope) {
    for (number, part) in plan.regions.enumerated() {
      let region = part.region
      for output in region.outputs {
        // A value that leaves through a port is read from there too.
        if let port = output.port,
          region.members.contains(scope.graph.definitions[output.value.index] ?? NodeID(-1))
        {
          scope.bufferOf[.value(output.value)] = scope.bufferOf[.port(port)]!
        }
      }
      if case .control(let id) = region.kind {
        addControl(scope.graph[id], part.arms.map(\.plan), &scope)
      } else {
        addSteps(region, part.lowered, number, &scope)
      }
    }
    mergeLast(&scope)
  }

  /// What buffers stand for, those made since the last call included.
  mutating func currentStorage() -> StorageMap {
    storage.extend(program.buffers)
    return storage
  }

  /// Puts the steps into the order of the instructions; neighbours become one run.
  private mutating func linearize(_ instructions: [Instruction]) {
    var (steps, order) = ([Step](), [Draft]())
    func walk(_ list: [Instruction]) -> [Instruction] {
      var result: [Instruction] = []
      for instruction in list {
        switch instruction {
        case .run(let range):
          let first = steps.count
          steps += program.steps[range]
          order += drafts[range]
          if case .run(let before)? = result.last {
            result[result.count - 1] = .run(before.lowerBound..<steps.count)
          } else {
            result.append(.run(first..<steps.count))
          }
        case .branch(let predicate, let then, let otherwise):
          result.append(.branch(predicate, then: walk(then), otherwise: walk(otherwise)))
        case .loop(var loop):
          loop.condition = walk(loop.condition)
          loop.body = walk(loop.body)
          result.append(.loop(loop))
        }
      }
      return result
    }
    program.instructions = walk(instructions)
    (program.steps, drafts) = (steps, order)
  }

  /// The number of a kernel; equal names are equal kernels.
  mutating func add(_ kernel: Kernel) -> KernelID {
    if let known = kernelIDs[kernel.name] { return known }
    let id = KernelID(kernels.count)
    kernels.append(kernel)
    program.kernels.append(
      KernelEntry(
        kernel.name, 0, tileCount: kernel.tileCount,
        operands: zip(kernel.parameters, kernel.touchedElements).map {
          OperandAccess($1 * $0.type.byteCount, isWritten: $0.isOutput)
        }, scratchBytes: kernel.localOffsets.total))
    kernelIDs[kernel.name] = id
    return id
  }

  private mutating func addSteps(
    _ region: Region, _ lowered: LoweredRegion, _ number: Int, _ scope: inout Scope
  ) {
    var isMap = false
    if case .rows(_, let axes) = region.kind { isMap = axes.isEmpty }
    for call in lowered.calls {
      var buffers: [BufferID] = []
      for binding in call.bindings {
        let id: BufferID
        switch binding {
        case .value(let value): id = buffer(for: value, &scope)
        case .destination(let destination):
          id =
            destination.port.map { scope.bufferOf[.port($0)]! }
            ?? buffer(for: destination.value, &scope)
        case .temporary(let slot):
          let key = Key.temporary(region: number, number: slot)
          if let known = scope.bufferOf[key] {
            id = known
          } else {
            let local = lowered.temporaries[slot]
            id = buffer(
              local.type, [local.count], .arena(0), of: "operand of \(region.origin(scope.graph))")
            scope.bufferOf[key] = id
          }
        }
        buffers.append(id)
      }
      let run = add(
        call.kernel, buffers,
        Draft(
          inPlace: call.inPlace.map { (buffers[$0.input], buffers[$0.output]) }, isMap: isMap),
        of: region.origin(scope.graph))
      scope.instructions.append(run)
    }
  }

  /// Adds a step.
  /// - Returns: the instruction that runs it.
  mutating func add(
    _ kernel: Kernel, _ buffers: [BufferID], _ draft: Draft, of origin: String
  ) -> Instruction {
    var step = Step(
      .kernel(add(kernel)), buffers: buffers, tileCount: kernel.tileCount, dependencies: [],
      name: kernel.name, flops: kernel.flops, bytesMoved: kernel.bytesMoved)
    step.origin = origin
    program.steps.append(step)
    drafts.append(draft)
    return .run(program.steps.count - 1..<program.steps.count)
  }

  // MARK: Control flow

  private mutating func addControl(_ node: Node, _ plans: [GraphPlan], _ scope: inout Scope) {
    guard let flow = node.operation.flow else {
      preconditionFailure("\(node.operation.mnemonic) is not control flow")
    }
    let operands = node.operands.map { buffer(for: $0, &scope) }
    let results = node.results.map { buffer(for: $0, &scope) }
    switch flow {
    case .call(let arm):
      scope.instructions += assemble(plans[0], Array(operands[arm.operands]), results)
    case .branch(let predicate, let then, let otherwise):
      scope.instructions.append(
        .branch(
          operands[predicate], then: assemble(plans[0], Array(operands[then.operands]), results),
          otherwise: assemble(plans[1], Array(operands[otherwise.operands]), results)))
    case .loop(let loop): addLoop(loop, plans, operands, results, &scope)
    }
  }

  private mutating func addLoop(
    _ loop: ControlLoop, _ plans: [GraphPlan], _ operands: [BufferID], _ results: [BufferID],
    _ scope: inout Scope
  ) {
    let id = program.loopCount
    program.loopCount += 1
    let count = loop.count?.constant
    var carried: [LoopInstruction.Carried] = []
    var (now, next) = ([BufferID](), [BufferID]())
    for (index, source) in operands[..<loop.carried].enumerated() {
      let slot = program[source]
      let other = buffer(slot.type, slot.shape, .arena(0))
      // The turns are set so that the last one writes the result, where the count is known.
      let swapped = (count ?? 0) % 2 == 1
      let (even, odd) = swapped ? (other, results[index]) : (results[index], other)
      carried.append(
        LoopInstruction.Carried(initial: source, even: even, odd: odd, result: results[index]))
      now.append(buffer(slot.type, slot.shape, .alternating(even, odd, loop: id, next: false)))
      next.append(buffer(slot.type, slot.shape, .alternating(even, odd, loop: id, next: true)))
    }
    var (predicate, condition) = (BufferID?.none, [Instruction]())
    if let test = loop.condition {
      let flag = buffer(.bool, [], .arena(0))
      condition = assemble(plans[0], now + operands[test.operands], [flag])
      predicate = flag
    }
    func slice(_ a: inout ProgramAssembly, _ base: BufferID) -> BufferID {
      let slot = a.program[base]
      return a.buffer(slot.type, Array(slot.shape.dropFirst()), .slice(base, loop: id))
    }
    let slices = operands[loop.stacks].map { slice(&self, $0) }
    let outputs = results[loop.carried...].map { slice(&self, $0) }
    let captured = operands[loop.body.operands]
    let body = assemble(plans.last!, now + slices + captured, next + outputs)
    var instruction = LoopInstruction(
      id: id, count: count, reverse: loop.reverse, predicate: predicate, condition: condition,
      carried: carried, body: body)
    // What depends on captured values alone is computed before the loop.
    scope.instructions += hoist(&instruction, steady: Set(captured))
    scope.instructions.append(.loop(instruction))
  }

  /// The steps of a graph whose arguments and results have the given buffers.
  private mutating func assemble(
    _ plan: GraphPlan, _ arguments: [BufferID], _ results: [BufferID]
  ) -> [Instruction] {
    var scope = Scope(graph: plan.graph)
    for (value, id) in zip(plan.graph.argumentValues, arguments) {
      scope.bufferOf[.value(value)] = id
    }
    for (index, id) in results.enumerated() { scope.bufferOf[.port(.result(index))] = id }
    addRegions(plan, &scope)
    return scope.instructions
  }
}
