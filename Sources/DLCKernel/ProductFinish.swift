package import DLCTensor

/// What follows for each element of a product while its sums are in registers: loads, operations and stores.
package struct ProductFinish: Hashable, Sendable {
  /// Memory that is walked in step with the product.
  package struct Access: Hashable, Sendable {
    package var memory: Memory
    package var type: DataType
    /// The place that belongs to the first row and column of the block; with lines to any row's first column.
    package var base: IndexExpression
    /// Between neighbouring rows, in a line.
    package var rowStride: Int
    /// 0 or 1.
    package var columnStride: Int
    /// Rows that are at regular distances, counted from the first of all; nil: all are.
    package var line: Int?

    package var form: FinishProgram.Form {
      if line != nil { return .linedElement }
      return switch (rowStride, columnStride) {
      case (0, 0): .scalar
      case (0, _): .column
      case (_, 0): .row
      default: .element
      }
    }
  }
  package var row: LoopVariable
  package var accesses: [Access]
  package var program: FinishProgram

  /// The canonical text.
  package var text: String {
    let places = accesses.map {
      "\($0.memory.text)[\($0.base)] by \($0.rowStride), \($0.columnStride)\($0.line.map { " lines of \($0)" } ?? "")"
    }
    return "\(program.text) where \(places.joined(separator: ", "))"
  }
}

/// The operations of a finish without the places of its memory: products that are finished alike share microkernels.
package struct FinishProgram: Hashable, Sendable {
  /// What a value in memory belongs to.
  package enum Form: String, Hashable, Sendable {
    case scalar
    case row
    case column
    case element
    /// An element, where rows end between which the distance is another.
    case linedElement

    package var isWide: Bool {
      switch self {
      case .scalar, .row: false
      case .column, .element, .linedElement: true
      }
    }
  }

  package struct Operand: Hashable, Sendable {
    package var type: DataType
    package var form: Form
    package init(_ type: DataType, _ form: Form) {
      self.type = type
      self.form = form
    }
  }

  /// What gives a value. Values have numbers: that of the product is 0, and each step gives the next one.
  package enum Step: Hashable, Sendable {
    case load(Int)
    case constant(ScalarConstant, DataType)
    case apply(ScalarOperation, DataType, [Int])
  }

  package struct Store: Hashable, Sendable {
    package var operand: Int
    package var value: Int
    package init(operand: Int, value: Int) {
      self.operand = operand
      self.value = value
    }
  }

  package var operands: [Operand] = []
  package var steps: [Step] = []
  /// All are done after the steps, so that nothing is overwritten that is still read.
  package var stores: [Store] = []

  package init() {}

  /// The canonical text.
  package var text: String {
    let memory = operands.map { "\($0.form.rawValue) \($0.type)" }.joined(separator: ", ")
    let values = steps.enumerated().map { number, step in
      switch step {
      case .load(let i): "v\(number + 1) = m\(i)"
      case .constant(let value, let type): "v\(number + 1) = \(value) \(type)"
      case .apply(let operation, let type, let of):
        "v\(number + 1) = \(operation) \(type) \(of.map { "v\($0)" }.joined(separator: " "))"
      }
    }
    let ends = stores.map { "m\($0.operand) = v\($0.value)" }
    return "[\(memory)] " + (values + ends).joined(separator: "; ")
  }

  /// Vector instructions for an element.
  package var cost: Int {
    operands.count
      + steps.reduce(0) { sum, step in
        if case .apply(let operation, _, _) = step {
          sum + InstructionCost.of(operation)
        } else {
          sum
        }
      }
  }
}

extension Kernel {
  /// Whether what follows a product is computed while its sums are in registers.
  package var finishesProducts: Bool {
    func finishes(_ statements: [Statement]) -> Bool {
      statements.contains { statement in
        switch statement {
        case .contract(let product): product.finish != nil
        case .loop(let loop): finishes(loop.body)
        case .when(_, let body): finishes(body)
        default: false
        }
      }
    }
    return allSections.contains { finishes($0.body) }
  }

  /// The kernel with loops over a finished block of a product joined to the product where they are short: then the block
  /// is never stored, and what is computed of it goes to memory between the sums, not in one burst after them.
  package func finishingProducts() -> Kernel {
    var result = self
    let matcher = FinishMatcher(self)
    result.body = matcher.joined(body)
    result.sections = sections.map { Section(grid: $0.grid, body: matcher.joined($0.body)) }
    if result == self { return self }
    // Blocks that nothing touches any more take no memory.
    let used = Set(result.allSections.flatMap { $0.body.flatMap(\.memories) })
    for index in locals.indices where !used.contains(.local(index)) {
      result.locals[index].count = 1
    }
    return result
  }
}

/// Finds loops that follow a product element by element.
private struct FinishMatcher {
  private let kernel: Kernel
  /// More instructions than this would push sums out of their registers.
  private static let dearest = 16

  init(_ kernel: Kernel) { self.kernel = kernel }

  func joined(_ statements: [Statement]) -> [Statement] {
    var result: [Statement] = []
    for statement in statements {
      switch statement {
      case .loop(var loop):
        if let place = result.lastIndex(where: { !$0.isDefinition }),
          case .contract(let product) = result[place],
          let finished = finish(product, loop, result)
        {
          result.remove(at: place)
          result.append(.contract(finished))
          continue
        }
        loop.body = joined(loop.body)
        result.append(.loop(loop))
      case .when(let id, let body): result.append(.when(id, joined(body)))
      default: result.append(statement)
      }
    }
    return result
  }

  /// The product with what the loop does; nil where the loop does more than go over the block once.
  private func finish(_ c: ContractStatement, _ rows: Loop, _ before: [Statement])
    -> ContractStatement?
  {
    guard case .local = c.c, c.finish == nil, rows.mode == .serial, rows.extent == c.rows,
      rows.accumulators.isEmpty, case .loop(let columns)? = rows.body.last,
      case .vector(_, width: 1) = columns.mode, columns.extent == c.columns,
      columns.accumulators.isEmpty, SumOrder.levels(c.depth, chain: c.depthBlock) == 0,
      isOnlyFor(c, rows)
    else { return nil }
    var writer = FinishWriter(c, rows.variable, columns.variable)
    for statement in before {
      // Memory of the kernel may be another by then.
      if case .define(_, .load(.local, _, _)) = statement { continue }
      writer.define(statement)
    }
    for statement in rows.body.dropLast() {
      if case .prefetch = statement { continue }
      guard writer.define(statement) else { return nil }
    }
    for statement in columns.body {
      if case .store(let memory, let index, let id, let type) = statement {
        guard writer.store(memory, index, id, type) else { return nil }
      } else if !writer.define(statement) {
        return nil
      }
    }
    guard writer.finish.program.cost <= Self.dearest else { return nil }
    var result = c
    result.finish = writer.finish
    return result
  }

  /// Whether nothing reads the block of a product but a loop.
  private func isOnlyFor(_ c: ContractStatement, _ loop: Loop) -> Bool {
    func touches(_ statements: [Statement]) -> Bool {
      statements.contains { statement in
        switch statement {
        case .loop(let other) where other == loop: false
        case .loop(let other): touches(other.body)
        case .when(_, let body): touches(body)
        case .contract(let other) where other.c == c.c:
          [other.a, other.b].contains(c.c) || other.partials.contains(c.c)
        default: statement.memories.contains(c.c)
        }
      }
    }
    return !kernel.allSections.contains { touches($0.body) }
  }
}

/// Writes the finish of a product from the loops that follow it.
private struct FinishWriter {
  private let product: ContractStatement
  private let row: LoopVariable
  private let column: LoopVariable
  private(set) var finish: ProductFinish
  private var expressions: [ScalarID: Expression] = [:]
  private var values: [ScalarID: Int] = [:]

  init(_ product: ContractStatement, _ row: LoopVariable, _ column: LoopVariable) {
    self.product = product
    self.row = row
    self.column = column
    finish = ProductFinish(row: row, accesses: [], program: FinishProgram())
  }

  /// Takes a definition; false for any other statement.
  @discardableResult
  mutating func define(_ statement: Statement) -> Bool {
    guard case .define(let id, let expression) = statement else { return false }
    expressions[id] = expression
    return true
  }

  mutating func store(
    _ memory: Memory, _ index: IndexExpression, _ id: ScalarID, _ type: DataType
  ) -> Bool {
    // Each element has a place of its own.
    guard let access = access(memory, index, type), finish.accesses[access].columnStride == 1,
      finish.accesses[access].rowStride != 0 || row.extent == 1, let value = value(id)
    else { return false }
    finish.program.stores.append(FinishProgram.Store(operand: access, value: value))
    return true
  }

  /// The number of a value, with the steps that it takes.
  private mutating func value(_ id: ScalarID) -> Int? {
    if let known = values[id] { return known }
    guard let expression = expressions[id] else { return nil }
    var step: FinishProgram.Step
    switch expression {
    case .constant(let value, let type): step = .constant(value, type)
    case .load(product.c, let index, _):
      guard isSum(index) else { return nil }
      values[id] = 0
      return 0
    case .load(let memory, let index, let type):
      guard let access = access(memory, index, type) else { return nil }
      step = .load(access)
    case .apply(let operation, let type, let operands):
      // Half floats are rounded after every operation.
      guard type != .float16, type != .bfloat16, !InstructionCost.isChain(operation) else {
        return nil
      }
      var numbers: [Int] = []
      for operand in operands {
        guard let number = value(operand) else { return nil }
        numbers.append(number)
      }
      step = .apply(operation, type, numbers)
    case .index, .multiplyAdd, .randomBits: return nil
    }
    finish.program.steps.append(step)
    values[id] = finish.program.steps.count
    return finish.program.steps.count
  }

  private func isSum(_ index: IndexExpression) -> Bool {
    (row.extent == 1 || index.stride(of: row) == product.cRowStride)
      && (column.extent == 1 || index.stride(of: column) == 1) && first(index) == product.cBase
  }

  /// The index for the first column of the block, and its first row.
  private func first(_ index: IndexExpression, ofAllRows: Bool = false) -> IndexExpression {
    index.substitute { variable in
      let extent =
        variable == row && !ofAllRows
        ? product.rows : variable == column ? product.columns : nil
      guard let extent else { return IndexExpression(variable) }
      return extent.index.map { IndexExpression($0) * extent.size } ?? IndexExpression(0)
    }
  }

  private mutating func access(_ memory: Memory, _ index: IndexExpression, _ type: DataType)
    -> Int?
  {
    guard let columnStride = index.stride(of: column), columnStride == 0 || columnStride == 1,
      memory != product.c
    else { return nil }
    let access: ProductFinish.Access
    if let rowStride = index.stride(of: row) {
      access = ProductFinish.Access(
        memory: memory, type: type, base: first(index), rowStride: rowStride,
        columnStride: columnStride)
    } else if columnStride == 1, let (line, rowStride) = index.lines(of: row),
      // A register tile goes over the end of one line at most.
      line >= product.tileRows
    {
      access = ProductFinish.Access(
        memory: memory, type: type, base: first(index, ofAllRows: true), rowStride: rowStride,
        columnStride: 1, line: line)
    } else {
      return nil
    }
    if let known = finish.accesses.firstIndex(of: access) { return known }
    finish.accesses.append(access)
    finish.program.operands.append(FinishProgram.Operand(type, access.form))
    return finish.accesses.count - 1
  }
}
