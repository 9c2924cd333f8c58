package import DLCTensor

/// What a kernel, or a part of one, takes on one core of a target.
package struct Price: Hashable, Sendable {
  /// Cycles of instructions, with data in the nearest cache.
  package var cycles = 0.0
  /// Bytes that come from, or go to, further than the nearest cache.
  package var bytes = 0.0
  /// Tiles that are handed to workers.
  package var tiles = 0
  /// Cycles in all: instructions and transfers overlap but in part, and each tile is handed over.
  package var total = 0.0

  package init() {}
}

/// Predicts what kernels take: instructions by class, bytes by the cache that they come from, tiles and
/// their hand-over. Schedules are chosen by it, `--emit schedule` prints it, and `Tools/bench --cost` holds
/// it against measurements.
package struct CostModel: Sendable {
  package let target: Target

  package init(_ target: Target) { self.target = target }

  /// Cycles to hand a tile to a worker, and to begin a step.
  package static let tile = 150.0
  package static let step = 1200.0
  /// Cycles to call a microkernel and to write its tile of the result.
  package static let microkernelCall = 14.0

  /// By how much longer tiles take that cores share: a few wait for the last ones, for a whole turn where tiles are
  /// equally long, else for less.
  package static func waiting(_ tiles: Double, cores: Int) -> Double {
    let cores = Double(cores)
    let turns = (tiles / cores).rounded(.up) * cores / tiles
    return 0.5 * turns + 0.5 * (1 + (cores - 1) / tiles)
  }

  /// Bytes that come in a cycle from the nearest level that holds so many.
  package func bandwidth(_ bytes: Double) -> Double {
    if bytes <= Double(target.caches.l1) { return 64 }
    if bytes <= Double(target.caches.l2) { return 24 }
    if bytes <= Double(target.caches.l3) { return 10 }
    return 4
  }

  /// Cycles of a product on register tiles whose operands are in the nearest caches.
  package func contract(
    _ type: DataType, tile: RegisterTile, rows: Int, columns: Int, depth: Int
  ) -> Double {
    let lanes = target.vectorBytes / type.byteCount
    let vectors = Double((columns + lanes - 1) / lanes)
    let panels = (vectors / Double(tile.vectors)).rounded(.up)
    let heights = Double((rows + tile.rows - 1) / tile.rows)
    // Rows of a thin tile share the loads of the columns among fewer products.
    let perStep = max(
      Double(rows) / heights * vectors / panels / Double(target.multiplyAddUnits),
      (Double(rows) / heights + vectors / panels) / 2)
    let calls = heights * panels
    // No step of the depth takes less than a cycle.
    return calls * (Double(depth) * max(perStep, 1) + Self.microkernelCall)
      + Double(rows) * vectors * 1.5
  }

  /// Cycles to copy elements: neighbours by vectors, others one by one.
  package func copy(_ type: DataType, count: Int, isContiguous: Bool) -> Double {
    let lanes = Double(target.vectorBytes / type.byteCount)
    return Double(count) * (isContiguous ? 2 / lanes : 2.5)
  }

  /// Cycles to bring a vector of tiles of one channel into the form in which they are multiplied: lanes stand apart.
  package func inputTransform(_ transform: WinogradTransform) -> Double {
    Double(transform.products) * 14
  }

  /// Cycles to bring the products of a vector of tiles back.
  package func outputTransform(_ transform: WinogradTransform) -> Double {
    Double(transform.products) * 3 + Double(transform.outputs * transform.outputs) * 3
  }

  private func transform(_ w: WinogradStatement) -> Double {
    let vectors = Double((w.tileCount + target.lanes - 1) / target.lanes)
    switch w.direction {
    case .input(let planes, _):
      let channels = Double(min(planes.channels.size, planes.channels.total))
      return vectors * (channels * inputTransform(w.transform) + 30)
    case .output: return vectors * outputTransform(w.transform)
    }
  }

  /// A whole kernel: all tiles one after the other.
  package func price(_ kernel: Kernel) -> Price {
    var price = Price()
    for section in kernel.allSections {
      let walk = Walk(model: self)
      price.cycles += Double(section.tileCount) * walk.cycles(section.body, .scalar)
      price.tiles += section.tileCount
    }
    price.bytes = zip(kernel.touchedElements, kernel.parameters).reduce(0) {
      $0 + Double($1.0 * $1.1.type.byteCount)
    }
    let transfer = price.bytes / bandwidth(price.bytes)
    price.total =
      max(price.cycles, transfer) + 0.3 * min(price.cycles, transfer) + Self.step
      + Double(price.tiles) * Self.tile
    return price
  }

  /// In what form the innermost open loop runs.
  private enum Form {
    case scalar
    /// So many elements at a time, along a variable.
    case vector(LoopVariable, lanes: Int)
  }

  private struct Walk {
    let model: CostModel

    func cycles(_ statements: [Statement], _ form: Form) -> Double {
      statements.reduce(0) { $0 + cycles($1, form) }
    }

    private func cycles(_ statement: Statement, _ form: Form) -> Double {
      switch statement {
      case .define(_, let expression): return cycles(expression, form)
      case .store(_, let index, _, let type): return access(index, type, form) + 0.25
      case .prefetch(let p): return 0.5 * Double(p.lines)
      case .bind: return scalar(form, 3)
      case .when(_, let body): return 1 + 0.5 * cycles(body, form)
      case .loop(let loop): return cycles(loop, form)
      case .contract(let c):
        let vectors = c.panelWidth * c.types.c.byteCount / model.target.vectorBytes
        let tile = RegisterTile(rows: c.tileRows, vectors: max(1, vectors))
        let (rows, columns) = (
          min(c.rows.size, c.rows.total), min(c.columns.size, c.columns.total)
        )
        let ends = Double(rows * columns * (c.finish?.program.cost ?? 0))
        return model.contract(
          c.types.c, tile: tile, rows: rows, columns: columns, depth: c.depth)
          + 0.5 * ends / Double(model.target.lanes)
      case .winograd(let w): return model.transform(w)
      case .pack(let p):
        let depth = p.taps.reduce(1) { $0 * $1.extent }
        let columns = min(p.columns.size, p.columns.total)
        let isContiguous = p.positions.last?.stride == 1
        return model.copy(p.type, count: depth * columns, isContiguous: isContiguous)
      }
    }

    private func cycles(_ loop: Loop, _ form: Form) -> Double {
      let count = Double(min(loop.extent.size, loop.extent.total))
      guard case .vector(let unroll, let width) = loop.mode, case .scalar = form else {
        return count * (cycles(loop.body, form) + 1) + 2
      }
      let lanes = model.target.lanes * width
      let body = cycles(loop.body, .vector(loop.variable, lanes: lanes))
      // Accumulators wait for one another, the less the more run side by side.
      let chain = loop.accumulators.isEmpty ? 0 : 4.0 / Double(unroll)
      let turns = (count / Double(lanes)).rounded(.up)
      return turns * (max(body, chain) + 1.0 / Double(unroll)) + 6
    }

    private func registers(_ type: DataType, _ form: Form) -> Double {
      guard case .vector(_, let lanes) = form else { return 1 }
      return max(1, Double(lanes * max(type.byteCount, 4)) / Double(model.target.vectorBytes))
    }

    private func scalar(_ form: Form, _ cycles: Double) -> Double {
      guard case .vector(_, let lanes) = form else { return cycles }
      return cycles * Double(lanes)
    }

    private func access(_ index: IndexExpression, _ type: DataType, _ form: Form) -> Double {
      guard case .vector(let variable, let lanes) = form else { return 0.5 }
      switch index.stride(of: variable) {
      case 0?: return 0.5
      case 1?: return 0.5 * registers(type, form)
      case let apart? where (2...4).contains(apart): return Double(apart) * registers(type, form)
      default: return 0.8 * Double(lanes)
      }
    }

    private func cycles(_ expression: Expression, _ form: Form) -> Double {
      switch expression {
      case .constant, .index: 0
      case .load(_, let index, let type): access(index, type, form)
      case .apply(let operation, let type, _):
        Double(InstructionCost.of(operation)) * 0.5 * registers(type, form)
      case .multiplyAdd(let type, _):
        // Serial, a step waits for the one before.
        switch form {
        case .scalar: 4
        case .vector: max(0.5 * registers(type, form), 4 / max(registers(type, form), 1))
        }
      case .randomBits: Double(InstructionCost.randomBits) * 0.5 * registers(.int32, form)
      }
    }
  }
}
