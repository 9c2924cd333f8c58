import DLCKernel
import DLCTensor

/// Loops, and the order in which what they carry is combined (see `SumOrder`).
extension KernelEmitter {
  func bounds(_ extent: BlockExtent) -> (begin: Operand, end: Operand) {
    guard let block = extent.index, extent.blockCount > 1 else {
      return (.index(0), .index(extent.total))
    }
    let begin = text.multiply(variables[block]!, extent.size)
    let next = text.add(begin, extent.size)
    if extent.total % extent.size == 0 { return (begin, next) }
    return (begin, text.smaller(next, .index(extent.total)))
  }

  private func initial(_ a: Accumulator, _ lanes: Int) -> Operand {
    text.splat(Self.literal(a.initial, a.type), lanes)
  }

  mutating func emitSerial(_ loop: Loop) {
    let lanes = vector?.lanes ?? 0
    let start = loop.accumulators.map { initial($0, lanes) }
    if loop.extent.index == nil, loop.extent.total <= 4 {
      var carried = start
      for iteration in 0..<loop.extent.total {
        variables[loop.variable] = .index(iteration)
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
    _ loop: Loop, _ lanes: Int, from begin: Operand, to end: Operand, step: Int, level: Int,
    _ carried: [Operand],
    _ chain: (inout KernelEmitter, Operand, Operand, [Operand]) -> [Operand]
  ) -> [Operand] {
    if level == 0 { return chain(&self, begin, end, carried) }
    let size = (0..<level).reduce(step) { size, _ in size * SumOrder.group }
    return counted(from: begin, to: end, step: size, carried: carried) { e, i, phis in
      let inside = e.text.smaller(e.text.add(i, size), end)
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

  /// Where the multiples of `step` that fit end.
  private func wholeEnd(_ begin: Operand, _ end: Operand, _ step: Int) -> Operand {
    text.subtract(end, text.integer(.urem, text.subtract(end, begin), step))
  }

  /// Iterations one after the other. Loads that run along the loop, while the lanes stand apart in
  /// memory, are made for several iterations at a time: a vector from each lane's place, transposed.
  private mutating func emitChain(
    _ loop: Loop, _ lanes: Int, from begin: Operand, to end: Operand, _ carried: [Operand]
  ) -> [Operand] {
    func single(_ e: inout KernelEmitter, _ begin: Operand, _ end: Operand, _ carried: [Operand])
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
    let limit = wholeEnd(begin, end, block)
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
            at == 0 ? i : e.text.add(i, at)
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
    from begin: Operand, to end: Operand, step: Int = 1, carried: [Operand] = [],
    _ body: (inout KernelEmitter, Operand, [Operand]) -> [Operand]
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
    return scalar { $0.apply(a.combiner!.operation, a.type, [x, y]) }
  }

  /// Lanes of the target's width. Values that the loop carries are combined in an order that only its
  /// extent decides: in blocks of 64 vectors, each of four chains that take the vectors by turns.
  /// `unroll` says how many vectors are worked on at a time, and changes nothing else.
  mutating func emitVector(_ loop: Loop, unroll: Int, width: Int) {
    precondition(vector == nil, "vector loops do not nest")
    let lanes = text.target.lanes * width
    let isWhole = loop.extent.index == nil || loop.extent.blockCount == 1
    let fixed = isWhole ? loop.extent.total : nil
    let block = Self.chains * SumOrder.group * lanes
    var carried: [Operand] = []
    if loop.accumulators.isEmpty {
      let (position, end) = emitWhole(loop, step: lanes * unroll, fixed, []) { e, i, _ in
        e.emitTurns(loop, lanes, unroll: unroll, at: i, [])
      }.range
      emitRest(
        loop, lanes, from: position, to: end, isEmpty: fixed.map { $0 % (lanes * unroll) == 0 })
    } else if let fixed, fixed <= block {
      carried = emitOneBlock(loop, lanes, unroll: unroll, fixed)
    } else {
      carried = emitBlocks(loop, lanes, unroll: unroll, fixed)
    }
    // Lanes are combined by a fixed tree.
    for (a, value) in zip(loop.accumulators, carried) {
      var (current, width) = (value, lanes)
      while width > 1 {
        width /= 2
        let upper = (0..<lanes).map { min($0 + width, lanes - 1) }
        let shifted = text.shuffle(current, .poison(current.type, lanes), upper)
        current = combine(a, current, shifted)
      }
      values[a.result] = text.extract(current, 0)
    }
  }

  private static let chains = 4

  /// One whole vector of a vector loop.
  private mutating func emitVectors(
    _ loop: Loop, _ lanes: Int, at position: Operand, _ carried: [Operand]
  ) -> [Operand] {
    vector = VectorContext(
      variable: loop.variable, lanes: lanes, mask: nil, remaining: nil,
      isAligned: loop.isAligned(lanes))
    variables[loop.variable] = position
    let next = emitBody(loop, carried, lanes)
    vector = nil
    return next
  }

  /// A vector of which only the lanes before `end` count.
  private mutating func emitMasked(
    _ loop: Loop, _ lanes: Int, at position: Operand, end: Operand, _ carried: [Operand]
  ) -> [Operand] {
    let remaining = text.subtract(end, position)
    let mask = text.mask(lanes, before: remaining)
    vector = VectorContext(
      variable: loop.variable, lanes: lanes, mask: mask, remaining: remaining,
      isAligned: loop.isAligned(lanes))
    variables[loop.variable] = position
    let next = emitBody(loop, carried, lanes)
    vector = nil
    return zip(next, carried).map { text.select(mask, $0, $1) }
  }

  /// The multiples of `step` that fit, and where they end.
  private mutating func emitWhole(
    _ loop: Loop, step: Int, _ fixed: Int?, _ carried: [Operand],
    _ body: (inout KernelEmitter, Operand, [Operand]) -> [Operand]
  ) -> (carried: [Operand], range: (position: Operand, end: Operand)) {
    let (begin, end) = bounds(loop.extent)
    if let fixed {
      let limit = fixed / step * step
      if limit == 0 { return (carried, (begin, end)) }
      return (
        counted(from: begin, to: .index(limit), step: step, carried: carried, body),
        (.index(limit), end)
      )
    }
    let limit = wholeEnd(begin, end, step)
    return (counted(from: begin, to: limit, step: step, carried: carried, body), (limit, end))
  }

  /// What is left, one vector at a time.
  @discardableResult
  private mutating func emitRest(
    _ loop: Loop, _ lanes: Int, from position: Operand, to end: Operand, isEmpty: Bool?,
    _ carried: [Operand] = []
  ) -> [Operand] {
    if isEmpty == true { return carried }
    return counted(from: position, to: end, step: lanes, carried: carried) { e, i, phis in
      e.emitMasked(loop, lanes, at: i, end: end, phis)
    }
  }

  /// A few vectors, by turns, of the chains in a queue; the first in it is next. Nothing is in it where nothing is
  /// carried.
  private mutating func emitTurns(
    _ loop: Loop, _ lanes: Int, unroll: Int, at position: Operand, _ queue: [Operand]
  ) -> [Operand] {
    let count = loop.accumulators.count
    var queue = queue
    if unroll > 1, unroll <= Self.chains, loop.body.contains(where: \.hasChain) {
      // Vectors of several registers: LLVM splits each instruction, and so they run side by side.
      let carried = (0..<count).map { a in
        text.concatenated((0..<unroll).map { queue[$0 * count + a] })
      }
      let next = emitVectors(loop, lanes * unroll, at: position, carried)
      let parts = next.map { text.parts($0, lanes) }
      return queue[(unroll * count)...] + (0..<unroll).flatMap { u in parts.map { $0[u] } }
    }
    for u in 0..<unroll {
      let at = u == 0 ? position : text.add(position, u * lanes)
      queue += emitVectors(loop, lanes, at: at, Array(queue[..<count]))
      queue.removeFirst(count)
    }
    return queue
  }

  private func queue(_ loop: Loop, _ lanes: Int) -> [Operand] {
    (0..<Self.chains).flatMap { _ in loop.accumulators.map { initial($0, lanes) } }
  }

  /// All of a loop that is no longer than a block, the part of a vector at its end too.
  private mutating func emitOneBlock(_ loop: Loop, _ lanes: Int, unroll: Int, _ extent: Int)
    -> [Operand]
  {
    let count = loop.accumulators.count
    let vectors = (extent + lanes - 1) / lanes
    if vectors == 0 { return loop.accumulators.map { initial($0, lanes) } }
    let (whole, range) = emitWhole(loop, step: lanes * unroll, extent, queue(loop, lanes)) {
      $0.emitTurns(loop, lanes, unroll: unroll, at: $1, $2)
    }
    var turns = whole
    if extent % (lanes * unroll) != 0 {
      turns = counted(from: range.position, to: range.end, step: lanes, carried: whole) {
        e, i, phis in
        Array(phis[count...])
          + e.emitMasked(loop, lanes, at: i, end: range.end, Array(phis[..<count]))
      }
    }
    // The queue has turned once for each vector.
    func chain(_ number: Int) -> [Operand] {
      let place = (number + Self.chains * vectors - vectors) % Self.chains
      return Array(turns[place * count..<(place + 1) * count])
    }
    var sums = chain(0)
    for number in 1..<Self.chains where number < vectors {
      sums = zip(loop.accumulators, zip(sums, chain(number))).map { combine($0, $1.0, $1.1) }
    }
    return sums
  }

  /// Blocks of whole vectors, groups of blocks, and the vectors that are left, fewer than there are
  /// chains.
  private mutating func emitBlocks(_ loop: Loop, _ lanes: Int, unroll: Int, _ fixed: Int?)
    -> [Operand]
  {
    let (count, step) = (loop.accumulators.count, lanes * Self.chains)
    let block = step * SumOrder.group
    let (begin, end) = bounds(loop.extent)
    let position: Operand
    if let fixed {
      position = .index(fixed / step * step)
    } else {
      position = wholeEnd(begin, end, step)
    }
    let carried = grouped(
      loop, lanes, from: begin, to: position, step: block,
      level: SumOrder.levels(loop.extent.size, chain: block),
      loop.accumulators.map { initial($0, lanes) }
    ) { e, begin, end, carried in
      e.counted(from: begin, to: end, step: block, carried: carried) { e, i, phis in
        let next = e.text.add(i, block)
        let chains = e.counted(
          from: i, to: e.text.smaller(next, end), step: lanes * unroll,
          carried: e.queue(loop, lanes)
        ) { $0.emitTurns(loop, lanes, unroll: unroll, at: $1, $2) }
        var sums = Array(chains[..<count])
        for number in 1..<Self.chains {
          for (index, a) in loop.accumulators.enumerated() {
            sums[index] = e.combine(a, sums[index], chains[number * count + index])
          }
        }
        return zip(loop.accumulators, zip(phis, sums)).map { e.combine($0, $1.0, $1.1) }
      }
    }
    return emitRest(
      loop, lanes, from: position, to: end, isEmpty: fixed.map { $0 % step == 0 }, carried)
  }
}

extension Loop {
  /// Whether vectors begin at multiples of their lanes.
  fileprivate func isAligned(_ lanes: Int) -> Bool {
    extent.index == nil || extent.blockCount == 1 || extent.size % lanes == 0
  }
}

extension Statement {
  /// Whether it computes a function that is a long chain of instructions.
  fileprivate var hasChain: Bool {
    switch self {
    case .define(_, .apply(let operation, let type, _)):
      type.isFloat && InstructionCost.isChain(operation)
    case .loop(let loop): loop.body.contains(where: \.hasChain)
    case .when(_, let body): body.contains(where: \.hasChain)
    default: false
    }
  }
}

extension Accumulator {
  /// Whether the order of its terms shows in the result: a sum or a product of real numbers.
  fileprivate var isGrouped: Bool {
    type.isFloat && (combiner == .sum || combiner == .product)
  }
}
