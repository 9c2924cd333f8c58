import ArgumentParser
import DLCData
import DLCFormats
import DLCTensor

struct DataCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "data", abstract: "Makes arrays (.npz) for training of files as people have them.",
    discussion: """
      -o NAME writes NAME_train.npz and NAME_test.npz, or NAME.npz with --test 0. Without other options a tenth \
      of the rows is held back, chosen by --seed.
      """,
    subcommands: [IDXFiles.self, Images.self, Table.self, Text.self, Archive.self])

  /// Where the arrays go.
  struct Output: ParsableArguments {
    @Option(
      name: .shortAndLong,
      help:
        "The files' name: NAME_train.npz and NAME_test.npz; NAME.npz alone with --test 0, or when it is given so and no part to test on is asked for."
    )
    var output: String
    @Option(help: "The name of the array of inputs.") var xName = "x"
    @Option(help: "The name of the array of labels or targets.") var yName = "y"
    @Flag(help: "Print what was written as JSON.") var json = false

    func validate() throws {
      let stem = output.hasSuffix(".npz") ? output.dropLast(4) : output[...]
      if stem.isEmpty || stem.hasSuffix("/") || output == "-" {
        throw ValidationError("-o is the name of files, as in -o data/digits, not '\(output)'")
      }
      if xName == yName { throw ValidationError("two arrays are called '\(xName)'") }
      for name in ["classes", "alphabet"] where xName == name || yName == name {
        throw ValidationError("'\(name)' is the name of another array")
      }
    }

    /// Checks that no source is written over.
    func requireNo(_ sources: String?...) throws(DLCError) {
      let paths = Dataset.paths(output)
      try OutputFile.requireDistinct(
        [paths.whole, paths.train, paths.test].map { ("-o", $0) },
        inputs: sources.map { ("a source", $0) })
    }

    func report(_ files: [Dataset.File]) throws(DLCError) {
      guard !json else {
        let list = files.map { file in
          JSON.object([
            ("file", .text(file.path)),
            (
              "arrays",
              .list(
                file.arrays.map {
                  .object([("name", .text($0.name)), ("type", .text("\($0.type)"))])
                })
            ),
          ])
        }
        return try Console.result("\(JSON.object([("files", .list(list))]))")
      }
      for file in files {
        let arrays = file.arrays.map { "\($0.name) \($0.type)" }.joined(separator: ", ")
        try Console.result("\(file.path): \(arrays)")
      }
    }
  }

  /// Which rows are held back.
  struct Division: ParsableArguments {
    @Option(help: "The share of the rows to test on, at least 0 and less than 1 (default: 0.1).")
    var test: Double?
    @Option(help: "The seed that chooses the rows to test on.") var seed: UInt64 = 0
    @Option(help: "Test on the last rows, so many.") var testLast: Int?
    @Option(help: "Test on the rows from this one on, counted from 0.") var testFrom: Int?

    func validate() throws {
      if let test, !(test >= 0 && test < 1) {
        throw ValidationError("--test is \(test): it must be at least 0 and less than 1")
      }
      for (name, value) in [("test-last", testLast), ("test-from", testFrom)] {
        if let value, value < 1 {
          throw ValidationError("--\(name) is \(value): it must be positive")
        }
      }
      if [test != nil, testLast != nil, testFrom != nil].filter({ $0 }).count > 1 {
        throw ValidationError("--test, --test-last and --test-from exclude each other")
      }
    }

    var isGiven: Bool { test != nil || testLast != nil || testFrom != nil }

    /// A file that is named in full holds all rows, where no part to test on is asked for.
    func split(for output: String) -> Split {
      if let testLast { return .last(testLast) }
      if let testFrom { return .from(testFrom) }
      return .share(test ?? (output.hasSuffix(".npz") ? 0 : 0.1), seed: seed)
    }
  }

  /// How images become rows.
  struct ImageOptions: ParsableArguments {
    @Option(
      help:
        "image ([n, channels, height, width]) or flat ([n, height * width * channels], a pixel's channels together)."
    )
    var layout = ImageLayout.image
    @Flag(help: "Keep 0...255 as uint8; without it float32 in 0...1.") var bytes = false
  }
}

extension ImageLayout: ExpressibleByArgument {}

/// The size of images, as 32x48.
struct ImageSize: ExpressibleByArgument {
  var height: Int
  var width: Int

  init?(argument: String) {
    let parts = argument.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
    guard parts.count == 2, let height = parts[0], let width = parts[1],
      (1...16384).contains(height), (1...16384).contains(width)
    else { return nil }
    (self.height, self.width) = (height, width)
  }
}

extension DataCommand {
  struct IDXFiles: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "idx", abstract: "Reads images and labels as MNIST has them (IDX, gzip too).")

    @ArgumentParser.Argument(help: "The images: bytes, [n, height, width].") var images: String
    @Option(help: "Their labels, [n]; they become int32.") var labels: String?
    @Option(help: "Images to test on, in place of a share of the others.") var testImages: String?
    @Option(help: "Their labels.") var testLabels: String?
    @OptionGroup var pictures: ImageOptions
    @OptionGroup var division: Division
    @OptionGroup var output: Output

    func validate() throws {
      if testImages != nil && division.isGiven {
        throw ValidationError("--test-images and a share to test on exclude each other")
      }
      if testImages == nil && testLabels != nil {
        throw ValidationError("--test-labels needs --test-images")
      }
      if testImages != nil && (labels == nil) != (testLabels == nil) {
        throw ValidationError("labels are given for both parts, or for none")
      }
    }

    func run() throws {
      try output.requireNo(images, labels, testImages, testLabels)
      let train = try dataset(images, labels)
      let test = try testImages.map { try dataset($0, testLabels) }
      if let test, test.columns[0].shape != train.columns[0].shape {
        throw DLCError(
          .format,
          "the images are \(test.columns[0].shape), those of '\(images)' \(train.columns[0].shape)",
          at: testImages ?? "")
      }
      try output.report(
        try train.write(output.output, division.split(for: output.output), test: test))
    }

    private func dataset(_ images: String, _ labels: String?) throws(DLCError) -> Dataset {
      let x = try IDX.read(images)
      guard x.dataType == .uint8,
        x.shape.count == 3 || x.shape.count > 1 && pictures.layout == .flat
      else {
        throw DLCError(
          .format, "images are uint8 of three axes, the file has \(x.type)", at: images,
          remedy: x.shape.count == 1 ? "it looks like labels" : "")
      }
      guard x.count > 0 else { throw DLCError(.format, "there is no image", at: images) }
      let shape =
        pictures.layout == .flat
        ? [x.shape.dropFirst().reduce(1, *)] : [1, x.shape[1], x.shape[2]]
      var result = Dataset(
        count: x.shape[0],
        columns: [
          Dataset.Column(
            output.xName, rowsOf: x, as: shape, dividedBy: pictures.bytes ? nil : 255)
        ])
      guard let labels else { return result }
      let y = try IDX.read(labels)
      guard y.shape.count == 1, y.dataType.isInteger else {
        throw DLCError(
          .format, "labels are whole numbers of one axis, the file has \(y.type)", at: labels)
      }
      guard y.shape == [x.shape[0]] else {
        throw DLCError(
          .format, "there are \(y.shape[0]) labels for the \(x.shape[0]) images of '\(images)'",
          at: labels)
      }
      result.columns.append(
        Dataset.Column(output.yName, rowsOf: try y.fitted(to: .int32, name: output.yName)))
      return result
    }
  }

  struct Images: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Reads a folder of PNG and JPEG files.",
      discussion: """
        Each sub-folder is a class: y has its number, in the order of the names, and 'classes' the names (uint8 rows \
        of UTF-8). A folder without sub-folders has no labels. What is transparent lies on black; a camera's mark of \
        how it was held is not followed.
        """)

    @ArgumentParser.Argument(help: "The folder.") var folder: String
    @Option(help: "Give all images this size, as 32x48 (height x width).") var size: ImageSize?
    @Option(help: "1 for grey, 3 for colours (default: 3 when any file has colours).")
    var channels: Int?
    @OptionGroup var pictures: ImageOptions
    @OptionGroup var division: Division
    @OptionGroup var output: Output

    func validate() throws {
      if let channels, channels != 1, channels != 3 {
        throw ValidationError("--channels is 1 or 3, not \(channels)")
      }
    }

    func run() throws {
      var options = ImageFolder.Options()
      options.layout = pictures.layout
      options.keepsBytes = pictures.bytes
      options.size = size.map { ($0.height, $0.width) }
      options.channels = channels
      options.names = (output.xName, output.yName)
      let dataset = try ImageFolder(folder).dataset(options)
      try output.report(try dataset.write(output.output, division.split(for: output.output)))
    }
  }

  struct Table: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "csv", abstract: "Reads a table with a header (CSV, gzip too).",
      discussion: """
        Columns become float32. A missing or bad number is an error with its line and column.
        """)

    @ArgumentParser.Argument(help: "The file.") var file: String
    @Option(
      help:
        "The column of classes for y (int32): whole numbers stay, names are numbered and kept in 'classes'."
    )
    var label: String?
    @Option(help: "The column of numbers for y (float32).") var target: String?
    @Option(help: "The columns of x, as a,b,c (default: all others).") var columns: String?
    @Option(help: "Columns that are left out, as a,b.") var drop: String?
    @Option(
      help: "Columns of names, which are numbered; NAME_classes keeps them.")
    var categories: String?
    @Flag(help: "One array for each column, in place of x [n, columns].") var separate = false
    @Flag(inversion: .prefixedNo, help: "Whether the first line names the columns.")
    var header = true
    @Option(help: "What separates fields: one character, or tab.") var delimiter = ","
    @OptionGroup var division: Division
    @OptionGroup var output: Output

    func validate() throws {
      if label != nil && target != nil {
        throw ValidationError("--label and --target exclude each other")
      }
      if columns != nil && drop != nil {
        throw ValidationError("--columns and --drop exclude each other")
      }
      if delimiter != "tab" && (delimiter.utf8.count != 1 || "\"\r\n".contains(delimiter)) {
        throw ValidationError("--delimiter is one character, or tab, not '\(delimiter)'")
      }
    }

    func run() throws {
      try output.requireNo(file)
      func list(_ text: String) -> [String] {
        text.split(separator: ",", omittingEmptySubsequences: false).map {
          String($0.drop { $0 == " " })
        }
      }
      var options = CSVTable.Options()
      options.delimiter = delimiter == "tab" ? 9 : delimiter.utf8.first!
      options.hasHeader = header
      options.columns = columns.map(list)
      options.dropped = drop.map(list) ?? []
      options.label = label
      options.target = target
      options.categories = categories.map(list) ?? []
      options.isSeparate = separate
      options.names = (output.xName, output.yName)
      let dataset = try CSVTable.dataset(file, options)
      try output.report(try dataset.write(output.output, division.split(for: output.output)))
    }
  }

  struct Text: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Cuts a text (UTF-8, gzip too) into windows of characters.",
      discussion: """
        x has rows of --window characters, y the character after each. They are numbers of characters in 'alphabet', \
        an int32 array of Unicode scalars. A share to test on is of blocks of --block characters.
        """)

    @ArgumentParser.Argument(help: "The file.") var file: String
    @Option(help: "Characters in a row.") var window = 64
    @Option(
      help:
        "all, ascii (the line feed and space to ~; everything else becomes ?), or an .npz that has an alphabet."
    )
    var alphabet = "all"
    @Flag(help: "Rows of bytes, whatever the file is; there is no alphabet.") var bytes = false
    @Option(help: "Hold back every so-manieth block.") var testEvery: Int?
    @Option(help: "Characters in a block.") var block = 8192
    @OptionGroup var division: Division
    @OptionGroup var output: Output

    func validate() throws {
      for (name, value) in [("window", window), ("block", block)]
      where !(1...(1 << 40)).contains(value) {
        throw ValidationError("--\(name) is \(value): it must be positive")
      }
      if let testEvery, testEvery < 2 {
        throw ValidationError("--test-every is \(testEvery): it must be at least 2")
      }
      if testEvery != nil && division.isGiven {
        throw ValidationError("--test-every and another part to test on exclude each other")
      }
      if bytes && alphabet != "all" {
        throw ValidationError("--bytes has no alphabet")
      }
    }

    func run() throws {
      try output.requireNo(file)
      var options = TextWindows.Options()
      options.window = window
      options.names = (output.xName, output.yName)
      switch (bytes, alphabet) {
      case (true, _): options.alphabet = .bytes
      case (_, "all"): options.alphabet = .all
      case (_, "ascii"): options.alphabet = .ascii
      default: options.alphabet = .given(try scalars(alphabet))
      }
      let parts = division.split(for: output.output)
      if let testEvery {
        options.division = .every(testEvery, block: block)
      } else if case .share = parts {
        options.division = .blocks(block, parts)
      } else {
        options.division = .plain(parts)
      }
      let windows = try TextWindows(file, options)
      if windows.replaced > 0 {
        Console.note("\(file): \(windows.replaced) of \(windows.count) characters became '?'")
      }
      try output.report(try windows.write(output.output))
    }

    private func scalars(_ path: String) throws(DLCError) -> [Int32] {
      guard path.hasSuffix(".npz") else {
        throw DLCError(.usage, "--alphabet is all, ascii or an .npz file, not '\(path)'")
      }
      guard let array = try Npz.read(path).first(where: { $0.name == "alphabet" })?.value else {
        throw DLCError(.binding, "there is no array 'alphabet'", at: path)
      }
      let scalars = try array.fitted(to: .int32, name: "alphabet").integers.map { Int32($0) }
      guard array.shape.count == 1, !scalars.isEmpty,
        zip(scalars, scalars.dropFirst()).allSatisfy({ $0 < $1 }),
        scalars.allSatisfy({ UInt32(exactly: $0).flatMap(Unicode.Scalar.init) != nil })
      else {
        throw DLCError(
          .format, "'alphabet' is no list of Unicode scalars in ascending order", at: path)
      }
      return scalars
    }
  }

  struct Archive: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "npz", abstract: "Splits the rows of an archive's arrays, and scales them.",
      discussion: """
        Arrays with as many rows as the first one (or --x-name, if there is one) are split; the others, such as 'classes' and 'alphabet', go into \
        both files as they are.
        """)

    @ArgumentParser.Argument(help: "The arrays.") var file: String
    @Option(
      help: "Divide an array and make it float32, as x=16; 16 alone is for --x-name.")
    var divide: [String] = []
    @Option(
      name: .customLong("type"),
      help: "Convert an array, which must keep every value, as y=int32; may be repeated.")
    var types: [String] = []
    @OptionGroup var division: Division
    @OptionGroup var output: Output

    func run() throws {
      try output.requireNo(file)
      let (arrays, skipped) = try Npz.contents(file)
      for (name, reason) in skipped { Console.note("\(file): '\(name)' is left out: \(reason)") }
      let names = arrays.map(\.name)
      let divisors = try divisors(names)
      let wanted = try wantedTypes(names, divided: divisors)
      let fixed: (String) -> Bool = {
        $0 == "classes" || $0 == "alphabet" || $0.hasSuffix("_classes")
      }
      let rows = arrays.filter { !fixed($0.name) && !$0.value.shape.isEmpty }
      guard let first = rows.first(where: { $0.name == output.xName }) ?? rows.first,
        first.value.shape[0] > 0
      else {
        throw DLCError(.format, "no array has rows", at: file)
      }
      var dataset = Dataset(count: first.value.shape[0], columns: [])
      for (name, value) in arrays {
        let converted: Tensor
        do throws(DLCError) {
          converted =
            try wanted[name].map { (type) throws(DLCError) in
              try value.fitted(to: type, name: name)
            } ?? value
        } catch { throw error.within(file) }
        if rows.contains(where: { $0.name == name }), value.shape[0] == dataset.count {
          dataset.columns.append(
            Dataset.Column(name, rowsOf: converted, dividedBy: divisors[name]))
        } else {
          guard divisors[name] == nil else {
            throw DLCError(.usage, "'\(name)' has no rows, and cannot be divided", at: file)
          }
          dataset.constants.append((name, converted))
          if !fixed(name) {
            Console.note("'\(name)' has no \(dataset.count) rows: each file gets all of it")
          }
        }
      }
      try output.report(try dataset.write(output.output, division.split(for: output.output)))
    }

    /// The array and the value that an option names.
    private func parts(_ option: String, _ text: String, _ names: [String]) throws(DLCError) -> (
      name: String, value: String
    ) {
      let parts = text.split(separator: "=", omittingEmptySubsequences: false).map(String.init)
      let (name, value) =
        parts.count == 1 && option == "divide"
        ? (output.xName, parts[0])
        : parts.count == 2 ? (parts[0], parts[1]) : ("", "")
      guard !name.isEmpty else {
        throw DLCError(.usage, "--\(option) is NAME=VALUE, not '\(text)'")
      }
      guard names.contains(name) else {
        throw DLCError(
          .usage, "there is no array '\(name)'", at: file,
          remedy: Spelling.remedy(for: name, among: names))
      }
      return (name, value)
    }

    private func divisors(_ names: [String]) throws(DLCError) -> [String: Float] {
      var divisors: [String: Float] = [:]
      for text in divide {
        let (name, value) = try parts("divide", text, names)
        guard let divisor = Float(value), divisor.isFinite, divisor != 0 else {
          throw DLCError(.usage, "'\(value)' is no number to divide '\(name)' by")
        }
        divisors[name] = divisor
      }
      return divisors
    }

    private func wantedTypes(_ names: [String], divided: [String: Float]) throws(DLCError)
      -> [String: DataType]
    {
      var wanted: [String: DataType] = [:]
      for text in types {
        let (name, value) = try parts("type", text, names)
        guard let type = DataType.allCases.first(where: { "\($0)" == value }), type != .bfloat16
        else {
          throw DLCError(
            .usage, "there is no type '\(value)' for '\(name)'",
            remedy: Spelling.remedy(for: value, among: DataType.allCases.map { "\($0)" }))
        }
        guard divided[name] == nil else {
          throw DLCError(.usage, "'\(name)' is divided, and then float32")
        }
        wanted[name] = type
      }
      return wanted
    }
  }
}
