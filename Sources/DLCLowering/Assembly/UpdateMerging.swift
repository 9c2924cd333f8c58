import DLCGraph
import DLCKernel
import DLCProgram

extension ProgramAssembly {
  /// Steps whose results nobody in the graph reads, such as the updates of parameters, can all run at
  /// the end: they become sections of a few kernels.
  mutating func mergeLast(_ scope: inout Scope) {
    let limit = Problem.mergeLimit
    let storage = currentStorage()
    var readers: [BufferID: Set<StorageMap.Part>] = [:]
    var writers: [BufferID: Int] = [:]
    program.forEachUse(in: scope.instructions) { use in
      for part in storage.parts(of: use.buffer) {
        if use.isWrite {
          writers[part.root, default: 0] += 1
        } else {
          readers[part.root, default: []].insert(part)
        }
      }
    }
    func isLast(_ index: Int) -> Bool {
      let step = program.steps[index]
      guard let kernel = step.kernel.map({ kernels[$0.index] }) else { return false }
      return drafts[index].isMap && kernel.locals.isEmpty && kernel.flops < 1 << 24
        && program.uses(step).allSatisfy { use in
          guard use.isWrite else { return true }
          if case .arena = program[use.buffer].place { return false }
          return storage.parts(of: use.buffer).allSatisfy { part in
            writers[part.root] == 1 && !(readers[part.root] ?? []).contains { $0.mayBe(part) }
          }
        }
    }
    var (kept, last) = ([Instruction](), [Int]())
    for instruction in scope.instructions {
      if case .run(let range) = instruction, isLast(range.lowerBound) {
        last.append(range.lowerBound)
      } else {
        kept.append(instruction)
      }
    }
    guard last.count >= 2 else { return }
    scope.instructions = kept
    for start in stride(from: 0, to: last.count, by: limit) {
      let group = Array(last[start..<min(start + limit, last.count)])
      scope.instructions.append(
        group.count == 1 ? .run(group[0]..<group[0] + 1) : merged(group))
    }
  }

  private mutating func merged(_ group: [Int]) -> Instruction {
    let (kernel, buffers) = Lowering.merged(
      group.map { (kernels[program.steps[$0].kernel!.index], program.steps[$0].buffers) }, "merged",
      target)
    sections[kernel.name] = group.map { program.steps[$0].name }
    let origins = group.map { program.steps[$0].origin }.filter { !$0.isEmpty }
    let origin = origins.prefix(2).joined(separator: "; ") + (origins.count > 2 ? "; ..." : "")
    return add(kernel, buffers, Draft(inPlace: sharable(group), isMap: false), of: origin)
  }

  /// Sections run in any order, so that a section writes over what it reads only where it alone reads it.
  private mutating func sharable(_ group: [Int]) -> [(input: BufferID, output: BufferID)] {
    let storage = currentStorage()
    var readers: [BufferID: Int] = [:]
    for index in group {
      let read = program.uses(program.steps[index]).filter { !$0.isWrite }
      for root in Set(read.flatMap { storage.parts(of: $0.buffer).map { $0.root } }) {
        readers[root, default: 0] += 1
      }
    }
    return group.flatMap { drafts[$0].inPlace }.filter { pair in
      storage.parts(of: pair.input).allSatisfy { readers[$0.root] == 1 }
    }
  }
}
