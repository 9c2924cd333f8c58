package import DLCTensor

extension Graph {
  /// The canonical text: one line per argument, node, result and update.
  package func text(indent: String = "") -> String {
    var lines: [String] = []
    for (index, argument) in arguments.enumerated() {
      lines.append(
        "%\(index) = \(argument.kind.rawValue) \(quote(argument.name)) : \(argument.type)")
    }
    for node in nodes {
      var line = node.results.map { "%\($0.index)" }.joined(separator: ", ")
      if !node.results.isEmpty { line += " = " }
      line += node.operation.mnemonic
      if !node.operands.isEmpty {
        line += " " + node.operands.map { "%\($0.index)" }.joined(separator: ", ")
      }
      let attributes = node.operation.attributes
      if !attributes.isEmpty {
        line +=
          " {" + attributes.map { "\($0.name) = \($0.value.text)" }.joined(separator: ", ") + "}"
      }
      if !node.operation.regions.isEmpty {
        line += " regions"
        for region in node.operation.regions {
          line += " {\n\(region.text(indent: indent + "  "))\(indent)}"
        }
      }
      if !node.results.isEmpty {
        line += " : " + node.results.map { "\(type($0))" }.joined(separator: ", ")
      }
      if !node.name.isEmpty { line += " name \(quote(node.name))" }
      if !node.location.isEmpty { line += " at \(quote(node.location))" }
      lines.append(line)
    }
    for result in results { lines.append("output \(quote(result.name)) = %\(result.value.index)") }
    for update in updates { lines.append("update \(quote(update.name)) = %\(update.value.index)") }
    return lines.map { indent + $0 + "\n" }.joined()
  }
}

extension Module {
  /// The canonical text of the module; `Module(parsing:)` reads it back.
  public var text: String {
    var text = "module \(quote(name)) {\n"
    for dimension in dimensions { text += "  dimension \(dimension.name) = \(dimension.size)\n" }
    for state in states {
      let (name, arguments) = state.initializer.encoded
      let list = arguments.map(\.description).joined(separator: ", ")
      text += "  state \(quote(state.name)) : \(state.type) = \(name)(\(list))"
      if state.isParameter { text += " parameter" }
      if let value = state.value { text += " value \(Attribute.Value.tensor(value).text)" }
      text += "\n"
    }
    if let recipe { text += "  recipe {\n\(recipe.text(indent: "    "))  }\n" }
    for function in functions {
      text += "  func \(quote(function.name)) {\n\(function.graph.text(indent: "    "))  }\n"
    }
    return text + "}\n"
  }
}

/// A string literal with the escapes that the parser knows.
package func quote(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case "\n": result += "\\n"
    default:
      if scalar.value < 32 {
        result += "\\u{\(String(scalar.value, radix: 16))}"
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
  }
  return result + "\""
}

extension Attribute.Value {
  package var text: String {
    switch self {
    case .integer(let value): "\(value)"
    case .real(let value): "real(\(value))"
    case .text(let value): quote(value)
    case .flag(let value): "\(value)"
    case .type(let value): "\(value)"
    case .integers(let values): "[\(values.map(\.description).joined(separator: ", "))]"
    case .dimensions(let values): "<\(values.map(\.description).joined(separator: ", "))>"
    case .tensor(let value): "dense(\(value.type), \(value.literal))"
    }
  }
}

extension Tensor {
  /// Decimal elements, one for a splat; the bytes in hexadecimal when there are many.
  package var literal: String {
    let isSplat = withUnsafeBytes { bytes in
      let size = dataType.byteCount
      return count > 0
        && (0..<count).allSatisfy { index in
          bytes[index * size..<(index + 1) * size].elementsEqual(bytes[0..<size])
        }
    }
    let hasNaN = dataType.isFloat && doubles.contains { $0.isNaN }
    if !hasNaN && isSplat { return "splat \(element(0))" }
    if !hasNaN && count <= 16 {
      return "[\((0..<count).map { element($0) }.joined(separator: ", "))]"
    }
    return withUnsafeBytes { bytes in
      let digits = Array("0123456789abcdef".utf8)
      var text: [UInt8] = []
      for byte in bytes { text += [digits[Int(byte >> 4)], digits[Int(byte & 15)]] }
      return "hex \"\(String(decoding: text, as: UTF8.self))\""
    }
  }
}
