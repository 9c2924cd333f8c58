import DLCKernel
import DLCTensor

/// Loops, and the order in which what they carry is combined (see `SumOrder`).
extension KernelEmitter {
  mutating func bounds(_ extent: BlockExtent) -> (begin: String, end: String) {
    guard let block = extent.index, extent.blockCount > 1 else { return ("0", "\(extent.total)") }
    let begin = text.make("i64", 0, "mul nsw i64 \(variables[block]!), \(extent.size)").name
    let next = text.make("i64", 0, "add nsw i64 \(begin), \(extent.size)").name
    if extent.total % extent.size == 0 { return (begin, next) }
    let inside = text.make("i1", 0, "icmp slt i64 \(next), \(extent.total)").name
    let end = text.make("i64", 0, "select i1 \(inside), i64 \(next), i64 \(extent.total)").name
    return (begin, end)
  }

  private func initial(_ a: Accumulator, _ lanes: Int) -> Operand {
    let scalar = literal(a.initial, a.type)
    return FunctionText.literal(scalar.name, scalar.type, lanes)
  }

  mutating func emitSerial(_ loop: Loop) {
    let lanes = vector?.lanes ?? 0
    let start = loop.accumulators.map { initial($0, lanes) }
    if loop.extent.index == nil, loop.extent.total <= 4 {
      var carried = start
      for iteration in 0..<loop.extent.total {
        variables[loop.variable] = "\(iteration)"
        carried = emitBody(loop, carried, lanes)
      }
      for (a, value) in zip(loop.accumulators, carried) { values[a.result] = value }
      return
    }
    let (begin, end) = bounds(loop.extent)
    let levels =
      loop.accumulators.contains(where: \.isGrouped)
      ? SumOrder.levels(loop.extent.size, chain: 1) : 0
    let results = grouped(loop, lanes, from: begin, to: end, step: 1, level: levels, start) {
      e, begin, end, carried in
      e.emitChain(loop, lanes, from: begin, to: end, carried)
    }
    for (a, value) in zip(loop.accumulators, results) { values[a.result] = value }
  }

  /// The terms from `begin` to `end`, `step` apart, in groups of groups; `chain` runs one group.
  private mutating func grouped(
    _ loop: Loop, _ lanes: Int, from begin: String, to end: String, step: Int, level: Int,
    _ carried: [Operand],
    _ chain: (inout KernelEmitter, String, String, [Operand]) -> [Operand]
  ) -> [Operand] {
    if level == 0 { return chain(&self, begin, end, carried) }
    let size = (0..<level).reduce(step) { size, _ in size * SumOrder.group }
    return counted(from: begin, to: end, step: size, carried: carried) { e, i, phis in
      let inside = e.smaller(e.text.make("i64", 0, "add nsw i64 \(i), \(size)").name, end)
      let start = zip(loop.accumulators, phis).map { $0.isGrouped ? e.initial($0, lanes) : $1 }
      let sums = e.grouped(
        loop, lanes, from: i, to: inside, step: step, level: level - 1, start, chain)
      return e.combineGroups(loop, phis, sums)
    }
  }

  /// What the accumulators are after a group: sums of it are added, all else went through it.
  private mutating func combineGroups(_ loop: Loop, _ before: [Operand], _ group: [Operand])
    -> [Operand]
  {
    var results = group
    for (index, a) in loop.accumulators.enumerated() where a.isGrouped {
      results[index] = combine(a, before[index], group[index])
    }
    return results
  }

  private func smaller(_ a: String, _ b: String) -> String {
    let isLess = text.make("i1", 0, "icmp slt i64 \(a), \(b)").name
    return text.make("i64", 0, "select i1 \(isLess), i64 \(a), i64 \(b)").name
  }

  /// Iterations one after the other. Loads that run along the loop, while the lanes stand apart in
  /// memory, are made for several iterations at a time: a vector from each lane's place, transposed.
  private mutating func emitChain(
    _ loop: Loop, _ lanes: Int, from begin: String, to end: String, _ carried: [Operand]
  ) -> [Operand] {
    func single(_ e: inout KernelEmitter, _ begin: String, _ end: String, _ carried: [Operand])
      -> [Operand]
    {
      e.counted(from: begin, to: end, carried: carried) { e, i, phis in
        e.variables[loop.variable] = i
        return e.emitBody(loop, phis, lanes)
      }
    }
    guard let (loads, block) = transposable(loop) else {
      return single(&self, begin, end, carried)
    }
    let length = text.make("i64", 0, "sub nsw i64 \(end), \(begin)").name
    let rest = text.make("i64", 0, "urem i64 \(length), \(block)").name
    let limit = text.make("i64", 0, "sub nsw i64 \(end), \(rest)").name
    let whole = counted(from: begin, to: limit, step: block, carried: carried) { e, i, phis in
      e.variables[loop.variable] = i
      let lanes = loads.map { e.laneAddresses($0) }
      let part = 16 / loads[0].type.byteCount
      var next = phis
      for first in Swift.stride(from: 0, to: block, by: part) {
        let columns = zip(loads, lanes).map { e.loadPart($0, $1, from: first) }
        for u in 0..<part {
          for (load, column) in zip(loads, columns) { e.transposed[load.id] = column[u] }
          let at = first + u
          e.variables[loop.variable] =
            at == 0 ? i : e.text.make("i64", 0, "add nsw i64 \(i), \(at)").name
          next = e.emitBody(loop, next, e.vector!.lanes)
        }
      }
      for load in loads { e.transposed[load.id] = nil }
      return next
    }
    return single(&self, limit, end, whole)
  }

  /// A loop whose body writes through this emitter.
  mutating func counted(
    from begin: String, to end: String, step: Int = 1, carried: [Operand] = [],
    _ body: (inout KernelEmitter, String, [Operand]) -> [Operand]
  ) -> [Operand] {
    text.loop(from: begin, to: end, step: step, carried: carried) { i, phis in body(&self, i, phis)
    }
  }

  /// One iteration: binds the accumulators, emits the body, and gives their next values.
  private mutating func emitBody(_ loop: Loop, _ carried: [Operand], _ lanes: Int) -> [Operand] {
    for (a, value) in zip(loop.accumulators, carried) { values[a.current] = value }
    emit(loop.body)
    return loop.accumulators.map { a in
      let next = values[a.next]!
      return lanes == 0 ? next : text.splat(next, lanes)
    }
  }

  private mutating func combine(_ a: Accumulator, _ x: Operand, _ y: Operand) -> Operand {
    let operation: ScalarOperation =
      switch a.combiner! {
      case .sum: .binary(.add)
      case .product: .binary(.multiply)
      case .maximum: .binary(.maximum)
      case .minimum: .binary(.minimum)
      case .and: .binary(.and)
      case .or: .binary(.or)
      }
    return scalar { $0.apply(operation, a.type, [x, y]) }
  }

  /// Lanes of the target's width. Values that the loop carries are combined in an order that only its
  /// extent decides; `unroll` says how many independent chains of that order run side by side.
  mutating func emitVector(_ loop: Loop, unroll: Int, width: Int) {
    precondition(vector == nil, "vector loops do not nest")
    let lanes = text.target.lanes * width
    let (begin, end) = bounds(loop.extent)
    let isWhole = loop.extent.index == nil || loop.extent.blockCount == 1
    let fixed = isWhole ? loop.extent.total : nil
    let start = loop.accumulators.map { initial($0, lanes) }
    // Carried values: four chains to a block.
    let step = lanes * (loop.accumulators.isEmpty ? unroll : 4)

    var carried = start
    var position = begin
    if fixed.map({ $0 >= step }) ?? true {
      if let fixed {
        position = "\(fixed / step * step)"
      } else {
        let length = text.make("i64", 0, "sub nsw i64 \(end), \(begin)").name
        let rest = text.make("i64", 0, "urem i64 \(length), \(step)").name
        position = text.make("i64", 0, "sub nsw i64 \(end), \(rest)").name
      }
      if loop.accumulators.isEmpty {
        _ = counted(from: begin, to: position, step: step) { e, i, _ in
          for u in 0..<unroll {
            let at = u == 0 ? i : e.text.make("i64", 0, "add nsw i64 \(i), \(u * lanes)").name
            _ = e.emitVectors(loop, lanes, at: at, [])
          }
          return []
        }
      } else {
        carried = emitBlocks(loop, lanes, unroll: unroll, from: begin, to: position, start)
      }
    }
    // The rest, one vector at a time under a mask.
    if fixed.map({ $0 % step != 0 }) ?? true {
      carried = counted(from: position, to: end, step: lanes, carried: carried) { e, i, phis in
        let remaining = e.text.make("i64", 0, "sub nsw i64 \(end), \(i)").name
        let count = e.text.make("i32", 0, "trunc i64 \(remaining) to i32")
        let limit = e.text.splat(count, lanes)
        let numbers = (0..<lanes).map { "i32 \($0)" }.joined(separator: ", ")
        let mask = e.text.make("i1", lanes, "icmp slt <\(lanes) x i32> <\(numbers)>, \(limit.name)")
        e.vector = VectorContext(
          variable: loop.variable, lanes: lanes, mask: mask, remaining: remaining)
        e.variables[loop.variable] = i
        let next = e.emitBody(loop, phis, lanes)
        e.vector = nil
        return zip(next, phis).map { new, old in
          e.text.make(new.type, lanes, "select \(mask.text), \(new.text), \(old.text)")
        }
      }
    }
    // Lanes are combined by a fixed tree.
    for (a, value) in zip(loop.accumulators, carried) {
      var (current, width) = (value, lanes)
      while width > 1 {
        width /= 2
        let upper = (0..<lanes).map { "i32 \(min($0 + width, lanes - 1))" }.joined(separator: ", ")
        let shifted = text.make(
          current.type, lanes,
          "shufflevector \(current.text), \(current.fullType) poison, <\(lanes) x i32> <\(upper)>")
        current = combine(a, current, shifted)
      }
      values[a.result] = text.make(current.type, 0, "extractelement \(current.text), i64 0")
    }
  }

  /// One whole vector of a vector loop.
  private mutating func emitVectors(
    _ loop: Loop, _ lanes: Int, at position: String, _ carried: [Operand]
  ) -> [Operand] {
    vector = VectorContext(variable: loop.variable, lanes: lanes, mask: nil, remaining: nil)
    variables[loop.variable] = position
    let next = emitBody(loop, carried, lanes)
    vector = nil
    return next
  }

  /// Whole vectors: blocks of four chains, and groups of blocks.
  private mutating func emitBlocks(
    _ loop: Loop, _ lanes: Int, unroll: Int, from begin: String, to end: String, _ start: [Operand]
  ) -> [Operand] {
    let block = 4 * SumOrder.group * lanes
    if loop.extent.size <= block {
      return emitBlock(loop, lanes, unroll: unroll, from: begin, to: end, start)
    }
    return grouped(
      loop, lanes, from: begin, to: end, step: block,
      level: SumOrder.levels(loop.extent.size, chain: block), start
    ) { e, begin, end, carried in
      e.counted(from: begin, to: end, step: block, carried: carried) { e, i, phis in
        let next = e.text.make("i64", 0, "add nsw i64 \(i), \(block)").name
        let first = zip(loop.accumulators, phis).map { $0.isGrouped ? e.initial($0, lanes) : $1 }
        let sums = e.emitBlock(
          loop, lanes, unroll: unroll, from: i, to: e.smaller(next, end), first)
        return e.combineGroups(loop, phis, sums)
      }
    }
  }

  /// A stretch of whole vectors as four chains of equal length, one behind the other in memory, whose
  /// results are combined from the first to the last. `unroll` of them take a step at a time, in turns:
  /// their order does not change.
  private mutating func emitBlock(
    _ loop: Loop, _ lanes: Int, unroll: Int, from begin: String, to end: String,
    _ carried: [Operand]
  ) -> [Operand] {
    let (chains, count) = (4, loop.accumulators.count)
    let length = text.make("i64", 0, "sub nsw i64 \(end), \(begin)").name
    let quarter = text.make("i64", 0, "lshr i64 \(length), 2").name
    let start = loop.accumulators.map { initial($0, lanes) }
    let all = [[Operand]](repeating: start, count: chains).flatMap { $0 }
    let zero = Operand(name: "0", type: "i64", lanes: 0)
    // The place in the first of the chains whose turn it is; their values stand first in the queue.
    let results = counted(
      from: "0", to: length, step: lanes * unroll, carried: [zero] + all
    ) { e, _, phis in
      var place = phis[0].name
      var queue = Array(phis.dropFirst())
      for _ in 0..<unroll {
        let at = e.text.make("i64", 0, "add nsw i64 \(begin), \(place)").name
        queue += e.emitVectors(loop, lanes, at: at, Array(queue[..<count]))
        queue.removeFirst(count)
        place = e.text.make("i64", 0, "add nsw i64 \(place), \(quarter)").name
      }
      let first = e.text.make("i64", 0, "sub nsw i64 \(place), \(length)").name
      let next = e.text.make("i64", 0, "add nsw i64 \(first), \(lanes)").name
      let isLast = e.text.make("i1", 0, "icmp sge i64 \(place), \(length)").name
      let turn = e.text.make("i64", 0, "select i1 \(isLast), i64 \(next), i64 \(place)")
      return [turn] + queue
    }
    var sums = carried
    for chain in 0..<chains {
      for (index, a) in loop.accumulators.enumerated() {
        sums[index] = combine(a, sums[index], results[1 + chain * count + index])
      }
    }
    return sums
  }
}

extension Accumulator {
  /// Whether the order of its terms shows in the result: a sum or a product of real numbers.
  fileprivate var isGrouped: Bool {
    type.isFloat && (combiner == .sum || combiner == .product)
  }
}
