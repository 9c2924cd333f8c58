import DLCTensor

extension Kernel {
  /// The broken rules of a kernel: scalars are defined once and before their use, variables are in
  /// scope, memories exist with the type they are accessed as, and no index leaves its memory.
  package func violations() -> [String] {
    allSections.flatMap { section in
      var checker = KernelChecker(kernel: self)
      for variable in section.grid { checker.scope.insert(variable) }
      checker.check(section.body)
      return checker.found
    }
  }
}

extension Kernel {
  /// How many elements of each parameter the kernel may touch, from the first one on.
  package var touchedElements: [Int] {
    var result = [Int](repeating: 0, count: parameters.count)
    for section in allSections where section.tileCount > 0 {
      var checker = KernelChecker(kernel: self)
      for variable in section.grid { checker.scope.insert(variable) }
      checker.check(section.body)
      for (parameter, count) in checker.touched {
        result[parameter] = max(result[parameter], count)
      }
    }
    return result
  }
}

private struct KernelChecker {
  let kernel: Kernel
  var touched: [Int: Int] = [:]
  var found: [String] = []
  var scope: Set<LoopVariable> = []
  var blocks: [LoopVariable: BlockExtent] = [:]
  var visible: Set<ScalarID> = []
  var everDefined: Set<ScalarID> = []

  mutating func define(_ id: ScalarID) {
    if !everDefined.insert(id).inserted { found.append("s\(id.index) is defined twice") }
    visible.insert(id)
  }

  mutating func use(_ id: ScalarID) {
    if !visible.contains(id) { found.append("s\(id.index) is used before its definition") }
  }

  mutating func use(_ index: IndexExpression) {
    for variable in index.variables where !scope.contains(variable) {
      found.append("i\(variable.id) is used outside its loop")
    }
  }

  func extent(_ memory: Memory) -> (type: DataType, count: Int)? {
    switch memory {
    case .parameter(let i) where kernel.parameters.indices.contains(i):
      (kernel.parameters[i].type, kernel.parameters[i].count)
    case .local(let i) where kernel.locals.indices.contains(i):
      (kernel.locals[i].type, kernel.locals[i].count)
    default: nil
    }
  }

  /// A variable of a block loop as block start plus offset, where the block number occurs beside it, or
  /// the number of a block that the block lies in: positions relative to a block then lose its number.
  func within(_ index: IndexExpression) -> IndexExpression {
    let next = unblocked(index)
    return next == index ? index : within(next)
  }

  private func unblocked(_ index: IndexExpression) -> IndexExpression {
    let variables = index.variables
    let relative = variables.filter { v in
      var block = blocks[v].flatMap(\.index)
      while let number = block {
        if variables.contains(number) { return true }
        block = blocks[number].flatMap(\.index)
      }
      return false
    }
    if relative.isEmpty { return index }
    return index.substitute { v in
      guard relative.contains(v), let block = blocks[v], let number = block.index else {
        return IndexExpression(v)
      }
      let offset = LoopVariable(id: -1 - v.id, extent: block.size)
      return IndexExpression(number) * block.size + IndexExpression(offset)
    }
  }

  mutating func access(
    _ memory: Memory, _ index: IndexExpression, _ type: DataType, write: Bool, reach: Int = 0
  ) {
    use(index)
    guard let (actual, count) = extent(memory) else {
      found.append("\(memory.text) does not exist")
      return
    }
    if actual != type { found.append("\(memory.text) is \(actual), not \(type)") }
    if write, case .parameter(let i) = memory, !kernel.parameters[i].isOutput {
      found.append("\(memory.text) is an input and is written")
    }
    let range = within(index).range
    if case .parameter(let i) = memory {
      touched[i] = max(touched[i] ?? 0, range.upperBound + reach + 1)
    }
    if range.lowerBound < 0 || range.upperBound + reach >= count {
      found.append(
        "index \(index) reaches \(range.lowerBound)...\(range.upperBound + reach) of \(memory.text)[\(count)]"
      )
    }
  }

  mutating func check(_ statements: [Statement]) {
    for statement in statements {
      switch statement {
      case .define(let id, let expression):
        switch expression {
        case .constant: break
        case .load(let memory, let index, let type): access(memory, index, type, write: false)
        case .index(let index, _): use(index)
        case .apply(_, _, let operands), .multiplyAdd(_, let operands): operands.forEach { use($0) }
        case .randomBits(let index, let key, let counter):
          use(index)
          use(key)
          use(counter)
        }
        define(id)
      case .store(let memory, let index, let value, let type):
        use(value)
        access(memory, index, type, write: true)
      case .prefetch(let p): access(p.memory, p.base, p.type, write: false)
      case .loop(let loop): check(loop)
      case .bind(let variable, let id):
        use(id)
        scope.insert(variable)
      case .when(let id, let body):
        use(id)
        let (outerScope, outerVisible) = (scope, visible)
        check(body)
        (scope, visible) = (outerScope, outerVisible)
      case .contract(let c): check(c)
      case .winograd(let w): check(w)
      case .pack(let p):
        if (p.taps + p.positions).contains(where: { $0.extent == 0 }) { continue }
        let reach = (p.taps + p.positions).reduce(0) { $0 + max($1.extent - 1, 0) * $1.stride }
        access(p.source, p.base, p.type, write: false, reach: reach)
        let depth = p.taps.reduce(1) { $0 * $1.extent }
        let columns = (p.columns.size + p.panelWidth - 1) / p.panelWidth * p.panelWidth
        access(p.destination, IndexExpression(0), p.type, write: true, reach: depth * columns - 1)
      }
    }
  }

  mutating func check(_ c: ContractStatement) {
    if c.rows.total == 0 || c.columns.total == 0 { return }
    if !c.types.isExact {
      found.append("\(c.types.c) does not hold the factors \(c.types.a) and \(c.types.b)")
    }
    if c.tileRows < 1 || c.panelWidth < 1 {
      found.append("a register tile of \(c.tileRows) rows by \(c.panelWidth) columns is none")
    }
    // The base index already places the block; the last rows of the last block bound the reach.
    let rows = c.rows.index == nil ? c.rows.total : c.rows.lastSize
    let columns = c.columns.index == nil ? c.columns.total : c.columns.lastSize
    let panels = (columns + c.panelWidth - 1) / c.panelWidth
    // A sum of nothing reads nothing.
    if c.depth > 0 {
      access(
        c.a, c.aBase, c.types.a, write: false,
        reach: (rows - 1) * c.aRowStride + (c.depth - 1) * c.aDepthStride)
      access(
        c.b, c.bBase, c.types.b, write: false,
        reach: (panels - 1) * c.bPanelStride + (c.depth - 1) * c.bDepthStride + c.panelWidth
          - 1)
    }
    let width = c.cIsPadded ? panels * c.panelWidth : columns
    if c.usesResult {
      access(c.c, c.cBase, c.types.c, write: true, reach: (rows - 1) * c.cRowStride + width - 1)
    }
    if let finish = c.finish { check(finish, c.rows, rows: rows, columns: columns) }
    if c.partials.count < SumOrder.levels(c.depth, chain: c.depthBlock) {
      found.append("a depth of \(c.depth) has no room for the sums of its groups")
    }
    for memory in c.partials {
      access(memory, IndexExpression(0), c.types.c, write: true, reach: c.partialCount - 1)
    }
  }

  mutating func check(_ finish: ProductFinish, _ extent: BlockExtent, rows: Int, columns: Int) {
    let stored = Set(finish.program.stores.map(\.operand))
    let outer = scope
    scope.insert(finish.row)
    blocks[finish.row] = extent
    for (number, a) in finish.accesses.enumerated() {
      access(
        a.memory, a.base, a.type, write: stored.contains(number),
        reach: (a.line == nil ? (rows - 1) * a.rowStride : 0) + (columns - 1) * a.columnStride)
    }
    scope = outer
    for (number, step) in finish.program.steps.enumerated() {
      if case .apply(_, _, let operands) = step, operands.contains(where: { $0 > number }) {
        found.append("step \(number) of a finish uses a value of a later one")
      }
    }
  }

  mutating func check(_ w: WinogradStatement) {
    if w.lines.total == 0 { return }
    if case .output(_, let room) = w.direction, room < w.tileCount {
      found.append("there are \(w.tileCount) tiles, and room for \(room)")
    }
    let reach = w.reach
    access(w.source, w.sourceBase, w.type, write: false, reach: reach.source)
    access(w.destination, w.destinationBase, w.type, write: true, reach: reach.destination)
  }

  mutating func check(_ loop: Loop) {
    if let index = loop.extent.index, !scope.contains(index) {
      found.append("block variable i\(index.id) is not in scope")
    }
    if loop.extent.total != loop.variable.extent {
      found.append("loop over i\(loop.variable.id) does not match the variable's extent")
    }
    if case .vector = loop.mode, loop.accumulators.contains(where: { $0.combiner == nil }) {
      found.append("loop over i\(loop.variable.id) carries a value that lanes cannot split")
    }
    let (outerScope, outerVisible) = (scope, visible)
    scope.insert(loop.variable)
    blocks[loop.variable] = loop.extent
    for a in loop.accumulators { define(a.current) }
    // A loop that never runs reaches nothing.
    if loop.extent.total > 0 {
      check(loop.body)
      for a in loop.accumulators { use(a.next) }
    }
    scope = outerScope
    visible = outerVisible
    for a in loop.accumulators { define(a.result) }
  }
}
