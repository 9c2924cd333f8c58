import DLCTensor

extension Kernel {
  /// The canonical text of a kernel.
  package var text: String {
    var lines = ["kernel \(name) tiles \(tileCount) {"]
    for (index, parameter) in parameters.enumerated() {
      lines.append(
        "  \(parameter.isOutput ? "out" : "in") p\(index) : \(parameter.type)[\(parameter.count)]")
    }
    for (index, local) in locals.enumerated() {
      lines.append("  local l\(index) : \(local.type)[\(local.count)]")
    }
    for (number, section) in allSections.enumerated() {
      if number > 0 { lines.append("  section") }
      for variable in section.grid {
        lines.append("  grid i\(variable.id) < \(variable.extent)")
      }
      for statement in section.body { lines += statement.lines("  ") }
    }
    return (lines + ["}"]).joined(separator: "\n") + "\n"
  }
}

extension Memory {
  package var text: String {
    switch self {
    case .parameter(let index): "p\(index)"
    case .local(let index): "l\(index)"
    }
  }
}

extension BlockExtent {
  fileprivate var text: String {
    index.map { "block i\($0.id) of \(size) in \(total)" } ?? "\(total)"
  }
}

extension Statement {
  fileprivate func lines(_ indent: String) -> [String] {
    switch self {
    case .define(let id, let expression): return ["\(indent)s\(id.index) = \(expression.text)"]
    case .store(let memory, let index, let value, let type):
      return ["\(indent)\(memory.text)[\(index)] = s\(value.index) : \(type)"]
    case .loop(let loop):
      let mode =
        switch loop.mode {
        case .serial: "for"
        case .vector(let unroll, let width):
          "vector x\(unroll)\(width == 1 ? "" : " wide \(width)")"
        }
      var lines = ["\(indent)\(mode) i\(loop.variable.id) in \(loop.extent.text) {"]
      for a in loop.accumulators {
        let how = a.combiner.map { " by \($0.rawValue)" } ?? ""
        lines.append(
          "\(indent)  carry s\(a.current.index) = \(a.initial) -> s\(a.next.index) : \(a.type) gives s\(a.result.index)\(how)"
        )
      }
      return lines + loop.body.flatMap { $0.lines(indent + "  ") } + ["\(indent)}"]
    case .prefetch(let p):
      return [
        "\(indent)prefetch \(p.type) \(p.memory.text)[\(p.base)] \(p.count) elements, \(p.ahead) ahead"
      ]
    case .bind(let variable, let id):
      return ["\(indent)bind i\(variable.id) < \(variable.extent) = s\(id.index)"]
    case .when(let id, let body):
      return ["\(indent)when s\(id.index) {"] + body.flatMap { $0.lines(indent + "  ") }
        + ["\(indent)}"]
    case .contract(let c):
      return [
        "\(indent)contract \(c.types.text) \(c.c.text)[\(c.cBase)] rows \(c.rows.text) by \(c.cRowStride)"
          + " columns \(c.columns.text)\(c.cIsPadded ? " padded" : "")"
          + " \(c.accumulates ? "+=" : "=") \(c.a.text)[\(c.aBase)] by \(c.aRowStride), \(c.aIsInStrips ? "strips" : "\(c.aDepthStride)")"
          + " * \(c.b.text)[\(c.bBase)] panels \(c.panelWidth) by \(c.bPanelStride), \(c.bDepthStride)"
          + " depth \(c.depth) in \(c.depthBlock), \(c.tileRows) rows at a time"
          + c.partials.map { " by \($0.text)" }.joined()
          + (c.finish.map { " then \($0.text)" } ?? "")
      ]
    case .winograd(let w):
      let what: String =
        switch w.direction {
        case .input(let planes, let panels):
          "input planes \(planes.channels.text) by \(planes.channelStride), images by \(planes.imageStride), lines by \(planes.lineStride)"
            + " to products by \(panels.productStride), panels \(panels.width) by \(panels.panelStride), channels by \(panels.channelStride)"
        case .output(let productStride, let room):
          "output products by \(productStride) to rows of \(room) tiles"
        }
      return [
        "\(indent)winograd \(w.type) \(w.transform.outputs) \(w.destination.text)[\(w.destinationBase)]"
          + " = \(w.source.text)[\(w.sourceBase)] lines \(w.lines.text) of \(w.linesPerImage), tiles \(w.tilesPerLine) \(what)"
      ]
    case .pack(let p):
      func axes(_ list: [PackStatement.Axis]) -> String {
        list.map { "\($0.extent):\($0.stride)" }.joined(separator: ", ")
      }
      return [
        "\(indent)pack \(p.type) \(p.destination.text) panels \(p.panelWidth) columns \(p.columns.text)"
          + " = \(p.source.text)[\(p.base)] taps (\(axes(p.taps))) positions (\(axes(p.positions)))"
      ]
    }
  }
}

extension Expression {
  fileprivate var text: String {
    switch self {
    case .constant(let value, let type):
      switch value {
      case .float(let v): return "\(v) : \(type)"
      case .integer(let v): return "\(v) : \(type)"
      }
    case .load(let memory, let index, let type): return "\(memory.text)[\(index)] : \(type)"
    case .index(let index, let type): return "index \(index) : \(type)"
    case .apply(let operation, let type, let operands):
      return
        "\(operation.name) \(operands.map { "s\($0.index)" }.joined(separator: ", ")) : \(type)"
    case .multiplyAdd(let type, let operands):
      return "multiply_add \(operands.map { "s\($0.index)" }.joined(separator: ", ")) : \(type)"
    case .randomBits(let index, let key, let counter):
      return "random_bits \(index), s\(key.index), s\(counter.index)"
    }
  }
}
