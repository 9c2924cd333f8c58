import DLCProgram

extension ProgramAssembly {
  /// The positions of instructions that run one step each which reads only steady buffers and writes
  /// only to the arena; what they write is steady too. A buffer that several steps fill is filled by
  /// all of them or by none.
  private mutating func invariant(_ list: [Instruction], steady: Set<BufferID>) -> Set<Int> {
    let storage = currentStorage()
    var touching: [BufferID: [Int]] = [:]
    var writers: [BufferID: [Int]] = [:]
    for (index, instruction) in list.enumerated() {
      let (reads, writes) = program.roots(instruction, storage)
      for root in writes { writers[root, default: []].append(index) }
      for root in reads.union(writes) { touching[root, default: []].append(index) }
    }
    var steady = steady
    var chosen: Set<Int> = []
    func keepsItsContents(_ id: BufferID) -> Bool {
      if case .constant = program[id].place { return true }
      return steady.contains(id)
    }
    for (index, instruction) in list.enumerated() {
      guard case .run(let range) = instruction else { continue }
      let uses = program.uses(program.steps[range.lowerBound])
      let isArena = uses.allSatisfy {
        guard $0.isWrite else { return true }
        return if case .arena = program[$0.buffer].place { true } else { false }
      }
      guard isArena, uses.allSatisfy({ $0.isWrite || keepsItsContents($0.buffer) }) else {
        continue
      }
      chosen.insert(index)
      for use in uses where use.isWrite {
        if writers[use.buffer]!.allSatisfy({ chosen.contains($0) }) { steady.insert(use.buffer) }
      }
    }
    // A step stays where another writer of what it touches stays.
    var pending = chosen.sorted()
    while let index = pending.popLast() {
      guard chosen.contains(index) else { continue }
      let (reads, writes) = program.roots(list[index], storage)
      let held = reads.union(writes).contains { root in
        (writers[root] ?? []).contains { !chosen.contains($0) }
      }
      guard held else { continue }
      chosen.remove(index)
      for root in writes { pending += touching[root]!.filter { chosen.contains($0) } }
    }
    return chosen
  }

  /// Takes what depends on steady buffers alone out of a loop.
  /// - Returns: the instructions that go before it.
  mutating func hoist(_ loop: inout LoopInstruction, steady: Set<BufferID>) -> [Instruction] {
    var before: [Instruction] = []
    func split(_ a: inout ProgramAssembly, _ list: [Instruction]) -> [Instruction] {
      let chosen = a.invariant(list, steady: steady)
      var rest: [Instruction] = []
      for (index, instruction) in list.enumerated() {
        if chosen.contains(index) { before.append(instruction) } else { rest.append(instruction) }
      }
      return rest
    }
    loop.condition = split(&self, loop.condition)
    loop.body = split(&self, loop.body)
    return before
  }

  /// Steps that only read constants, state that no run updates, and what such steps wrote, run once.
  mutating func prepare(_ instructions: inout [Instruction]) {
    var steady: Set<BufferID> = []
    for (index, slot) in program.buffers.enumerated() {
      if case .state(let i) = slot.place, !program.states[i].isUpdated {
        steady.insert(BufferID(index))
      }
    }
    let chosen = invariant(instructions, steady: steady)
    var (list, rest, offset) = ([Step](), [Instruction](), 0)
    for (index, instruction) in instructions.enumerated() {
      guard chosen.contains(index), case .run(let range) = instruction else {
        rest.append(instruction)
        continue
      }
      let step = program.steps[range.lowerBound]
      list.append(step)
      for use in program.uses(step) where use.isWrite {
        guard case .arena = program[use.buffer].place else { continue }
        program.buffers[use.buffer.index].place = .prepared(offset)
        offset += (program[use.buffer].byteCount + 63) / 64 * 64
      }
    }
    program.preparedBytes = offset
    program.preparation = StepLinker.linked(list, 0..<list.count, program, currentStorage())
    instructions = rest
  }

  /// The next value of a state takes the place of the old one where a step reads and writes it element
  /// by element and everything else that reads it comes before.
  mutating func updateInPlace(_ list: [Instruction]) {
    let storage = currentStorage()
    var uses: [BufferID: [Int]] = [:]
    for (index, instruction) in list.enumerated() {
      let (reads, writes) = program.roots(instruction, storage)
      for root in reads.union(writes) { uses[root, default: []].append(index) }
    }
    for (index, instruction) in list.enumerated() {
      guard case .run(let range) = instruction else { continue }
      let step = program.steps[range.lowerBound]
      for (input, output) in drafts[range.lowerBound].inPlace {
        guard case .state(let i) = program[input].place,
          case .nextState(let j) = program[output].place, i == j,
          uses[output] == [index], uses[input]!.allSatisfy({ $0 <= index }),
          program.uses(step).filter({ use in
            !use.isWrite && storage.parts(of: use.buffer).contains { $0.root == input }
          }).count == 1
        else { continue }
        program.buffers[output.index].place = .state(i)
      }
    }
  }
}
