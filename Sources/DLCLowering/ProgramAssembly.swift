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

/// Orders kernels into steps, gives every value a buffer, and places the buffers. The graphs that
/// control flow holds become parts of the same program.
package struct ProgramAssembly {
  private let target: Target
  private var program = Program()
  private var kernels: [Kernel] = []
  private var kernelIDs: [String: KernelID] = [:]
  private var constants: [UInt8] = []

  private enum Key: Hashable {
    case value(ValueID)
    case port(GraphPort)
    case temporary(region: Int, number: Int)
  }

  /// A graph that is being assembled, and where its values lie.
  private struct Scope {
    var graph: Graph
    var bufferOf: [Key: BufferID] = [:]
    var items: [Item] = []
  }

  private struct DraftStep {
    var step: Step
    var reads: [BufferID]
    var writes: [BufferID]
    var inPlace: [(input: BufferID, output: BufferID)]
    /// Whether it is one loop nest over elements, so that others can stand beside it in a kernel.
    var isMap: Bool
    /// When it runs: a position in the whole program.
    var position = 0
  }

  private indirect enum Item {
    case step(DraftStep)
    case loop(LoopInstruction, condition: [Item], body: [Item], locals: Set<BufferID>)
    case branch(BufferID, [Item], [Item], locals: Set<BufferID>)
  }

  /// - Parameter states: the states that the graph reads or updates.
  package static func assemble(
    _ graph: Graph, _ lowered: [(Region, LoweredRegion)], states: [StatePort], _ target: Target
  ) -> AssembledProgram {
    var assembly = ProgramAssembly(target: target)
    return assembly.run(graph, lowered, states)
  }

  private init(target: Target) { self.target = target }

  private mutating func buffer(_ type: DataType, _ shape: [Int], _ place: BufferSlot.Place)
    -> BufferID
  {
    program.buffers.append(BufferSlot(type, shape, place))
    return BufferID(program.buffers.count - 1)
  }

  private mutating func run(
    _ graph: Graph, _ lowered: [(Region, LoweredRegion)], _ states: [StatePort]
  ) -> AssembledProgram {
    var scope = Scope(graph: graph)
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
        scope.bufferOf[.value(value)] = id
      case .state:
        let position = states.firstIndex { $0.name == argument.name }!
        scope.bufferOf[.value(value)] = buffer(type.dataType, type.sizes, .state(position))
      case .captured: preconditionFailure("functions capture nothing")
      }
    }
    for (index, result) in graph.results.enumerated() {
      let type = graph.type(result.value)
      let id = buffer(type.dataType, type.sizes, .output(index))
      program.outputs.append(Port(result.name, id))
      scope.bufferOf[.port(.result(index))] = id
    }
    for (index, update) in graph.updates.enumerated() {
      let type = graph.type(update.value)
      let position = states.firstIndex { $0.name == update.name }!
      scope.bufferOf[.port(.update(index))] = buffer(
        type.dataType, type.sizes, .nextState(position))
    }
    addRegions(lowered, &scope)
    prepare(&scope)
    updateInPlace(scope.items)
    place(&scope.items)
    dropUnusedKernels()
    program.scratchBytes = kernels.map(\.localOffsets.total).max() ?? 0
    program.constantBytes = constants.count
    return AssembledProgram(program: program, kernels: kernels, constants: constants)
  }

  /// Kernels that became sections of others are not called themselves.
  private mutating func dropUnusedKernels() {
    let used = Set((program.steps + program.preparation).map(\.kernel)).sorted {
      $0.index < $1.index
    }
    let number = Dictionary(
      uniqueKeysWithValues: used.enumerated().map { ($0.element, KernelID($0.offset)) })
    kernels = used.map { kernels[$0.index] }
    program.kernels = used.map { program.kernels[$0.index] }
    for index in program.steps.indices {
      program.steps[index].kernel = number[program.steps[index].kernel]!
    }
    for index in program.preparation.indices {
      program.preparation[index].kernel = number[program.preparation[index].kernel]!
    }
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
    let id = buffer(type.dataType, type.sizes, .arena(0))
    scope.bufferOf[.value(value)] = id
    return id
  }

  private mutating func addRegions(_ lowered: [(Region, LoweredRegion)], _ scope: inout Scope) {
    for (number, (region, kernels)) in lowered.enumerated() {
      for output in region.outputs {
        // A value that leaves through a port is read from there too.
        if let port = output.port,
          region.members.contains(scope.graph.definitions[output.value.index] ?? NodeID(-1))
        {
          scope.bufferOf[.value(output.value)] = scope.bufferOf[.port(port)]!
        }
      }
      if case .control(let id) = region.kind {
        addControl(scope.graph[id], &scope)
      } else {
        addSteps(region, kernels, number, &scope)
      }
    }
    mergeLast(&scope)
  }

  // MARK: Many updates in few kernels

  /// Steps whose results nobody in the graph reads, such as the updates of parameters, can all run at
  /// the end: they become sections of a few kernels.
  private mutating func mergeLast(_ scope: inout Scope) {
    let limit = 24
    var readers: Set<BufferID> = []
    var writers: [BufferID: Int] = [:]
    for item in scope.items {
      let (reads, writes) = touched(item)
      readers.formUnion(reads)
      for id in writes { writers[id, default: 0] += 1 }
    }
    func isLast(_ step: DraftStep) -> Bool {
      let kernel = kernels[step.step.kernel.index]
      return step.isMap && kernel.locals.isEmpty && kernel.flops < 1 << 24
        && step.writes.allSatisfy { id in
          if case .arena = program[id].place { return false }
          return !readers.contains(id) && writers[id] == 1
        }
    }
    var (kept, last) = ([Item](), [DraftStep]())
    for item in scope.items {
      if case .step(let step) = item, isLast(step) { last.append(step) } else { kept.append(item) }
    }
    guard last.count >= 2 else { return }
    scope.items = kept
    for start in stride(from: 0, to: last.count, by: limit) {
      let group = Array(last[start..<min(start + limit, last.count)])
      scope.items.append(.step(group.count == 1 ? group[0] : merged(group)))
    }
  }

  /// The next value of a state takes the place of the old one where a step reads and writes it element
  /// by element and everything else that reads it comes before.
  private mutating func updateInPlace(_ items: [Item]) {
    var uses: [BufferID: [Int]] = [:]
    for (index, item) in items.enumerated() {
      let (reads, writes) = touched(item)
      for id in reads.union(writes) { uses[id, default: []].append(index) }
    }
    for (index, item) in items.enumerated() {
      guard case .step(let step) = item else { continue }
      for (input, output) in step.inPlace {
        guard case .state(let i) = program[input].place,
          case .nextState(let j) = program[output].place, i == j,
          uses[output] == [index], uses[input]!.allSatisfy({ $0 <= index }),
          step.reads.filter({ $0 == input }).count == 1
        else { continue }
        program.buffers[output.index].place = .state(i)
      }
    }
  }

  /// The number of a kernel; equal names are equal kernels.
  private mutating func add(_ kernel: Kernel) -> KernelID {
    if let known = kernelIDs[kernel.name] { return known }
    let id = KernelID(kernels.count)
    kernels.append(kernel)
    program.kernels.append(
      KernelEntry(
        kernel.name, 0, tileCount: kernel.tileCount,
        operands: kernel.parameters.map {
          KernelEntry.Operand($0.count * $0.type.byteCount, isWritten: $0.isOutput)
        }))
    kernelIDs[kernel.name] = id
    return id
  }

  private mutating func merged(_ steps: [DraftStep]) -> DraftStep {
    var (buffers, parameters, places) = ([BufferID](), [Parameter](), [[Int]]())
    var (reads, writes) = ([BufferID](), [BufferID]())
    for step in steps {
      let kernel = kernels[step.step.kernel.index]
      var list: [Int] = []
      for (id, parameter) in zip(step.step.buffers, kernel.parameters) {
        if let known = buffers.firstIndex(of: id), parameters[known] == parameter {
          list.append(known)
        } else {
          list.append(buffers.count)
          buffers.append(id)
          parameters.append(parameter)
        }
      }
      places.append(list)
      reads += step.reads
      writes += step.writes
    }
    let all = steps.map { kernels[$0.step.kernel.index] }
    let type = all[0].parameters.first { $0.isOutput }!.type
    let kernel = Lowering.named(
      Kernel.merged(all, parameters: parameters, places: places), "merged", type, target)
    let step = Step(
      kernel: add(kernel), buffers: buffers, tileCount: kernel.tileCount, dependencies: [],
      name: kernel.name, flops: kernel.flops, bytesMoved: kernel.bytesMoved)
    return DraftStep(
      step: step, reads: reads, writes: writes, inPlace: steps.flatMap(\.inPlace), isMap: false)
  }

  private mutating func addSteps(
    _ region: Region, _ lowered: LoweredRegion, _ number: Int, _ scope: inout Scope
  ) {
    var isMap = false
    if case .rows(_, let axes) = region.kind { isMap = axes.isEmpty }
    for call in lowered.calls {
      var (buffers, reads, writes) = ([BufferID](), [BufferID](), [BufferID]())
      for (index, binding) in call.bindings.enumerated() {
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
            id = buffer(local.type, [local.count], .arena(0))
            scope.bufferOf[key] = id
          }
        }
        buffers.append(id)
        if call.kernel.parameters[index].isOutput { writes.append(id) } else { reads.append(id) }
      }
      let step = Step(
        kernel: add(call.kernel), buffers: buffers, tileCount: call.kernel.tileCount, dependencies: [],
        name: call.kernel.name, flops: call.kernel.flops, bytesMoved: call.kernel.bytesMoved)
      scope.items.append(
        .step(
          DraftStep(
            step: step, reads: reads, writes: writes,
            inPlace: call.inPlace.map { (buffers[$0.input], buffers[$0.output]) }, isMap: isMap)))
    }
  }

  // MARK: Control flow

  private mutating func addControl(_ node: Node, _ scope: inout Scope) {
    let operands = node.operands.map { buffer(for: $0, &scope) }
    let results = node.results.map { buffer(for: $0, &scope) }
    let start = program.buffers.count
    switch node.operation {
    case .cond(let cond):
      let split = 1 + cond.then.arguments.count
      let then = assemble(cond.then, Array(operands[1..<split]), results)
      let otherwise = assemble(cond.otherwise, Array(operands[split...]), results)
      scope.items.append(.branch(operands[0], then, otherwise, locals: created(since: start)))
    case .whileLoop(let loop):
      let carried = Array(operands[..<loop.carried])
      let tested = operands[loop.carried..<loop.condition.arguments.count]
      let captured = operands[loop.condition.arguments.count...]
      addLoop(node, loop.carried, carried, results, count: nil, reverse: false, &scope) {
        a, now, next in
        let predicate = a.buffer(.bool, [], .arena(0))
        let condition = a.assemble(loop.condition, now + tested, [predicate])
        return (predicate, condition, a.assemble(loop.body, now + captured, next), Array(captured))
      }
    case .scan(let scan):
      let carried = Array(operands[..<scan.carried])
      let stacks = operands[scan.carried..<scan.carried + scan.stacked]
      let captured = operands[(scan.carried + scan.stacked)...]
      let count = scan.length.constant!
      addLoop(
        node, scan.carried, carried, results, count: count, reverse: scan.reverse, &scope
      ) { a, now, next in
        let id = a.program.loopCount - 1
        func slice(_ base: BufferID) -> BufferID {
          let slot = a.program[base]
          return a.buffer(slot.type, Array(slot.shape.dropFirst()), .slice(base, loop: id))
        }
        let slices = stacks.map(slice)
        let outputs = results[scan.carried...].map(slice)
        let body = a.assemble(scan.body, now + slices + captured, next + outputs)
        return (nil, [], body, Array(captured))
      }
    default: preconditionFailure("\(node.operation.mnemonic) is not control flow")
    }
  }

  private func created(since start: Int) -> Set<BufferID> {
    Set((start..<program.buffers.count).map { BufferID($0) })
  }

  private mutating func addLoop(
    _ node: Node, _ carriedCount: Int, _ initial: [BufferID], _ results: [BufferID], count: Int?,
    reverse: Bool, _ scope: inout Scope,
    _ fill: (inout ProgramAssembly, _ now: [BufferID], _ next: [BufferID]) -> (
      predicate: BufferID?, condition: [Item], body: [Item], captured: [BufferID]
    )
  ) {
    let id = program.loopCount
    program.loopCount += 1
    var carried: [LoopInstruction.Carried] = []
    var (now, next) = ([BufferID](), [BufferID]())
    for (index, source) in initial.enumerated() {
      let slot = program[source]
      let other = buffer(slot.type, slot.shape, .arena(0))
      // The turns are set so that the last one writes the result, where the count is known.
      let swapped = (count ?? 0) % 2 == 1
      let (even, odd) = swapped ? (other, results[index]) : (results[index], other)
      carried.append(
        LoopInstruction.Carried(initial: source, even: even, odd: odd, result: results[index]))
      now.append(
        buffer(slot.type, slot.shape, .alternating(even, odd, loop: id, next: false)))
      next.append(buffer(slot.type, slot.shape, .alternating(even, odd, loop: id, next: true)))
    }
    let start = program.buffers.count
    let (predicate, condition, body, captured) = fill(&self, now, next)
    var locals = created(since: start)
    // What depends on captured values alone is computed before the loop.
    var steady = Set(captured)
    let (before, rest) = hoist(condition: condition, body: body, &steady)
    scope.items += before.map { .step($0) }
    for step in before { locals.subtract(step.writes) }
    scope.items.append(
      .loop(
        LoopInstruction(
          id: id, count: count, reverse: reverse, predicate: predicate, condition: [],
          carried: carried, body: []),
        condition: rest.condition, body: rest.body, locals: locals))
  }

  /// The steps of a graph whose arguments and results have the given buffers.
  private mutating func assemble(_ graph: Graph, _ arguments: [BufferID], _ results: [BufferID])
    -> [Item]
  {
    var scope = Scope(graph: graph)
    for (value, id) in zip(graph.argumentValues, arguments) { scope.bufferOf[.value(value)] = id }
    for (index, id) in results.enumerated() { scope.bufferOf[.port(.result(index))] = id }
    let regions = Partition.run(graph, target)
    addRegions(regions.map { ($0, Lowering.lower($0, graph, target)) }, &scope)
    return scope.items
  }

  // MARK: What runs once

  /// Steps among `items` that read only steady buffers and write only to the arena; what they write
  /// is steady too. A buffer that several steps fill is filled by all of them or by none.
  private func invariant(_ items: [Item], _ steady: inout Set<BufferID>) -> Set<Int> {
    var writers: [BufferID: [Int]] = [:]
    for (index, item) in items.enumerated() {
      for id in touched(item).writes { writers[id, default: []].append(index) }
    }
    for index in program.buffers.indices {
      if case .constant = program.buffers[index].place { steady.insert(BufferID(index)) }
    }
    var chosen: Set<Int> = []
    for (index, item) in items.enumerated() {
      guard case .step(let step) = item, !step.reads.isEmpty || !step.writes.isEmpty else {
        continue
      }
      let isArena = step.writes.allSatisfy {
        if case .arena = program[$0].place { true } else { false }
      }
      guard isArena, step.reads.allSatisfy({ steady.contains($0) }) else { continue }
      chosen.insert(index)
      for id in step.writes where writers[id]!.allSatisfy({ chosen.contains($0) }) {
        steady.insert(id)
      }
    }
    var changed = true
    while changed {
      changed = false
      for index in chosen {
        guard case .step(let step) = items[index] else { continue }
        if (step.reads + step.writes).contains(where: {
          (writers[$0] ?? []).contains { !chosen.contains($0) }
        }) {
          chosen.remove(index)
          changed = true
        }
      }
    }
    return chosen
  }

  /// What an item and everything in it reads and writes, and what that stands for.
  private func touched(_ item: Item) -> (reads: Set<BufferID>, writes: Set<BufferID>) {
    func all(_ items: [Item]) -> (reads: Set<BufferID>, writes: Set<BufferID>) {
      items.reduce(into: ([], [])) { sum, item in
        let (reads, writes) = touched(item)
        sum.reads.formUnion(reads)
        sum.writes.formUnion(writes)
      }
    }
    var (reads, writes): (Set<BufferID>, Set<BufferID>)
    switch item {
    case .step(let step): (reads, writes) = (Set(step.reads), Set(step.writes))
    case .loop(let loop, let condition, let body, _):
      (reads, writes) = all(condition + body)
      for carried in loop.carried {
        reads.formUnion([carried.initial, carried.even, carried.odd])
        writes.formUnion([carried.even, carried.odd, carried.result])
      }
      if let predicate = loop.predicate { reads.insert(predicate) }
    case .branch(let predicate, let then, let otherwise, _):
      (reads, writes) = all(then + otherwise)
      reads.insert(predicate)
    }
    reads.formUnion(reads.flatMap(bases))
    writes.formUnion(writes.flatMap(bases))
    return (reads, writes)
  }

  /// The buffers that a slice or a turn stands for.
  private func bases(_ id: BufferID) -> [BufferID] {
    switch program[id].place {
    case .slice(let base, _): [base] + bases(base)
    case .alternating(let even, let odd, _, _): [even, odd] + bases(even) + bases(odd)
    default: []
    }
  }

  private func hoist(condition: [Item], body: [Item], _ steady: inout Set<BufferID>) -> (
    before: [DraftStep], rest: (condition: [Item], body: [Item])
  ) {
    var before: [DraftStep] = []
    func split(_ items: [Item], _ steady: inout Set<BufferID>) -> [Item] {
      let chosen = invariant(items, &steady)
      var rest: [Item] = []
      for (index, item) in items.enumerated() {
        if chosen.contains(index), case .step(let step) = item {
          before.append(step)
        } else {
          rest.append(item)
        }
      }
      return rest
    }
    var known = steady
    let first = split(condition, &known)
    known = steady
    let second = split(body, &known)
    return (before, (first, second))
  }

  /// Steps that only read constants, state that no run updates, and what such steps wrote, run once.
  private mutating func prepare(_ scope: inout Scope) {
    var steady: Set<BufferID> = []
    for (index, slot) in program.buffers.enumerated() {
      if case .state(let i) = slot.place, !program.states[i].isUpdated {
        steady.insert(BufferID(index))
      }
    }
    let chosen = invariant(scope.items, &steady)
    var (list, rest, offset) = ([DraftStep](), [Item](), 0)
    for (index, item) in scope.items.enumerated() {
      guard chosen.contains(index), case .step(let step) = item else {
        rest.append(item)
        continue
      }
      list.append(step)
      for id in step.writes {
        guard case .arena = program[id].place else { continue }
        program.buffers[id.index].place = .prepared(offset)
        offset += (program[id].byteCount + 63) / 64 * 64
      }
    }
    program.preparedBytes = offset
    for index in list.indices { list[index].position = index }
    program.preparation = linked(list, first: 0, extra: [:])
    scope.items = rest
  }

  // MARK: Arena

  private mutating func place(_ items: inout [Item]) {
    // Live from the first to the last position that touches a buffer; loops hold what is around them.
    var order: [BufferID] = []
    var ranges: [BufferID: LiveRange] = [:]
    var position = 0
    func touch(_ id: BufferID, _ at: Int) {
      for base in bases(id) { touch(base, at) }
      guard case .arena = program[id].place else { return }
      if ranges[id] == nil {
        order.append(id)
        ranges[id] = LiveRange(size: program[id].byteCount, first: at, last: at)
      }
      ranges[id]!.first = min(ranges[id]!.first, at)
      ranges[id]!.last = max(ranges[id]!.last, at)
    }
    func walk(_ items: inout [Item]) -> Set<BufferID> {
      var used: Set<BufferID> = []
      for index in items.indices {
        switch items[index] {
        case .step(var step):
          step.position = position
          items[index] = .step(step)
          for id in step.reads + step.writes {
            touch(id, position)
            used.insert(id)
            used.formUnion(bases(id))
          }
          position += 1
        case .loop(let loop, var condition, var body, let locals):
          let begin = position
          position += 1
          var inside = walk(&condition)
          inside.formUnion(walk(&body))
          if let predicate = loop.predicate { inside.insert(predicate) }
          for carried in loop.carried {
            inside.formUnion([carried.initial, carried.even, carried.odd, carried.result])
          }
          items[index] = .loop(loop, condition: condition, body: body, locals: locals)
          hold(inside, locals, begin)
          used.formUnion(inside)
        case .branch(let predicate, var then, var otherwise, let locals):
          let begin = position
          position += 1
          var inside = walk(&then)
          inside.formUnion(walk(&otherwise))
          inside.insert(predicate)
          items[index] = .branch(predicate, then, otherwise, locals: locals)
          hold(inside, locals, begin)
          used.formUnion(inside)
        }
      }
      return used
    }
    func hold(_ inside: Set<BufferID>, _ locals: Set<BufferID>, _ begin: Int) {
      for id in inside.subtracting(locals).sorted(by: { $0.index < $1.index }) {
        touch(id, begin)
        touch(id, position)
      }
      position += 1
    }
    _ = walk(&items)

    // An output takes over the bytes of an input that dies in the same step.
    var owner: [BufferID: BufferID] = [:]
    func root(_ id: BufferID) -> BufferID { owner[id].map { root($0) } ?? id }
    var steps: [DraftStep] = []
    func collect(_ items: [Item]) {
      for item in items {
        switch item {
        case .step(let step): steps.append(step)
        case .loop(_, let condition, let body, _): collect(condition + body)
        case .branch(_, let a, let b, _): collect(a + b)
        }
      }
    }
    collect(items)
    for step in steps {
      var taken: Set<BufferID> = []
      for (input, output) in step.inPlace {
        guard let dying = ranges[root(input)], let born = ranges[output], owner[output] == nil,
          dying.last == step.position,
          ranges[input]?.last == step.position, born.first == step.position,
          dying.size == born.size,
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
    var touched: [BufferID: Set<Int>] = [:]
    for step in steps {
      for id in step.reads + step.writes {
        for base in [id] + bases(id) { touched[root(base), default: []].insert(step.position) }
      }
    }
    for late in keepers {
      let (b, y) = (ranges[late]!, offsets[late]!)
      for early in keepers {
        let a = ranges[early]!
        guard a.last < b.first, a.size > 0, b.size > 0 else { continue }
        let x = offsets[early]!
        if x < y + b.size && y < x + a.size {
          for position in touched[late] ?? [] {
            extra[position, default: []].formUnion(touched[early] ?? [])
          }
        }
      }
    }
    program.instructions = emit(items, extra)
  }

  /// Instructions and steps in their final order.
  private mutating func emit(_ items: [Item], _ extra: [Int: Set<Int>]) -> [Instruction] {
    var instructions: [Instruction] = []
    var run: [DraftStep] = []
    func flush(_ a: inout ProgramAssembly) {
      guard !run.isEmpty else { return }
      let first = a.program.steps.count
      a.program.steps += a.linked(run, first: first, extra: extra)
      instructions.append(.run(first..<a.program.steps.count))
      run = []
    }
    for item in items {
      switch item {
      case .step(let step): run.append(step)
      case .loop(var loop, let condition, let body, _):
        flush(&self)
        loop.condition = emit(condition, extra)
        loop.body = emit(body, extra)
        instructions.append(.loop(loop))
      case .branch(let predicate, let then, let otherwise, _):
        flush(&self)
        instructions.append(
          .branch(predicate, then: emit(then, extra), otherwise: emit(otherwise, extra)))
      }
    }
    flush(&self)
    return instructions
  }

  /// Steps of one run with their dependencies: readers after writers, writers after earlier readers
  /// and writers of the same buffer.
  private func linked(_ list: [DraftStep], first: Int, extra: [Int: Set<Int>]) -> [Step] {
    var (writers, readers) = ([BufferID: [Int]](), [BufferID: [Int]]())
    let indexOf = Dictionary(
      uniqueKeysWithValues: list.enumerated().map { ($0.element.position, $0.offset) })
    var ancestors: [Set<Int>] = []
    var steps: [Step] = []
    for (index, entry) in list.enumerated() {
      var needed = Set((extra[entry.position] ?? []).compactMap { indexOf[$0] })
      needed = needed.filter { $0 < index }
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
      step.dependencies = direct.sorted().map { StepID($0 + first) }
      steps.append(step)
    }
    return steps
  }
}
