//! The suite's prompts: a name and arguments go in, messages come out, or a question first.

use super::media::PNG;
use super::questions::{CONTEXT, answers};
use rmcp::ErrorData;
use rmcp::model::{
    ClientCapabilities, CompleteRequestParams, CompletionInfo, ContentBlock, GetPromptRequestParams,
    GetPromptResponse, GetPromptResult, InputRequiredResult, Prompt, PromptArgument, PromptMessage,
    Reference, ResourceContents, Role,
};

const SIMPLE: &str = "test_simple_prompt";
const WITH_ARGUMENTS: &str = "test_prompt_with_arguments";
const WITH_RESOURCE: &str = "test_prompt_with_embedded_resource";
const WITH_IMAGE: &str = "test_prompt_with_image";
const WITH_QUESTION: &str = "test_input_required_result_prompt";

/// What `arg1` is completed to.
const PLACES: [&str; 3] = ["paris", "park", "party"];

pub(super) fn list() -> Vec<Prompt> {
    let prompt = |name: &str, description: &str, arguments: &[(&str, &str)]| {
        let argument = |(name, description): &(&str, &str)| {
            PromptArgument::new(*name)
                .with_description(*description)
                .with_required(true)
        };
        let arguments = (!arguments.is_empty()).then(|| arguments.iter().map(argument).collect());
        Prompt::new(name, Some(description), arguments)
    };
    vec![
        prompt(SIMPLE, "One message.", &[]),
        prompt(
            WITH_ARGUMENTS,
            "One message that quotes its arguments.",
            &[("arg1", "First test argument"), ("arg2", "Second test argument")],
        ),
        prompt(
            WITH_RESOURCE,
            "A resource and a message about it.",
            &[("resourceUri", "URI of the resource to embed")],
        ),
        prompt(WITH_IMAGE, "An image and a message about it.", &[]),
        prompt(WITH_QUESTION, "Asks the user for its context first.", &[]),
    ]
}

pub(super) fn get(
    request: &GetPromptRequestParams,
    capabilities: &ClientCapabilities,
) -> Result<GetPromptResponse, ErrorData> {
    let argument = |name: &str| {
        let found = request
            .arguments
            .as_ref()
            .and_then(|arguments| arguments.get(name)?.as_str());
        found.ok_or_else(|| {
            ErrorData::invalid_params(format!("{} needs the string {name}", request.name), None)
        })
    };
    let user = |content| PromptMessage::new(Role::User, content);
    let text = |text: String| user(ContentBlock::text(text));
    let messages = match request.name.as_str() {
        SIMPLE => vec![text("This is a simple prompt for testing.".into())],
        WITH_ARGUMENTS => {
            let (first, second) = (argument("arg1")?, argument("arg2")?);
            vec![text(format!(
                "Prompt with arguments: arg1='{first}', arg2='{second}'"
            ))]
        }
        WITH_RESOURCE => {
            let contents =
                ResourceContents::text("Embedded resource content for testing.", argument("resourceUri")?);
            vec![
                user(ContentBlock::resource(contents)),
                text("Please process the embedded resource above.".into()),
            ]
        }
        WITH_IMAGE => vec![
            user(ContentBlock::image(PNG, "image/png")),
            text("Please analyze the image above.".into()),
        ],
        WITH_QUESTION => match answers(&[CONTEXT], request.input_responses.as_ref(), capabilities)? {
            Ok(answers) => vec![text(format!("Use this context: {}", answers.concat()))],
            Err(open) => return Ok(InputRequiredResult::from_input_requests(open).into()),
        },
        other => {
            return Err(ErrorData::invalid_params(
                format!("Unknown prompt: {other}"),
                None,
            ));
        }
    };
    Ok(GetPromptResult::new(messages).into())
}

/// Values for an argument of one of these prompts; `None` for anything else.
pub(super) fn complete(request: &CompleteRequestParams) -> Option<Result<CompletionInfo, ErrorData>> {
    let Reference::Prompt(prompt) = &request.r#ref else {
        return None;
    };
    list().iter().find(|known| known.name == prompt.name)?;
    let has_places = prompt.name == WITH_ARGUMENTS && request.argument.name == "arg1";
    let begun = request.argument.value.as_str();
    let values = PLACES
        .into_iter()
        .filter(|place| has_places && place.starts_with(begun))
        .map(str::to_owned);
    let completion = CompletionInfo::with_all_values(values.collect());
    Some(completion.map_err(|error| ErrorData::internal_error(error, None)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn got(request: Value) -> Result<GetPromptResponse, ErrorData> {
        let able = serde_json::from_str(r#"{"elicitation":{}}"#).unwrap();
        get(&serde_json::from_value(request).unwrap(), &able)
    }

    #[test]
    fn everything_that_is_listed_can_be_got() {
        for prompt in list() {
            let arguments = json!({"arg1": "a", "arg2": "b", "resourceUri": "test://x"});
            assert!(
                got(json!({"name": prompt.name, "arguments": arguments})).is_ok(),
                "{}",
                prompt.name
            );
            let bare = got(json!({"name": prompt.name}));
            assert_eq!(bare.is_err(), prompt.arguments.is_some(), "{}", prompt.name);
        }
        assert_eq!(got(json!({"name": "x"})).unwrap_err().code.0, -32602);
    }

    #[test]
    fn completes_what_was_begun() {
        let ask = |name: &str, value: &str| {
            let request = json!({"ref": {"type": "ref/prompt", "name": WITH_ARGUMENTS}, "argument": {"name": name, "value": value}});
            complete(&serde_json::from_value(request).unwrap())
                .unwrap()
                .unwrap()
                .values
        };
        assert_eq!(ask("arg1", "par"), PLACES);
        assert_eq!(ask("arg1", "pari"), ["paris"]);
        assert_eq!(ask("arg1", "x"), [""; 0]);
        assert_eq!(ask("arg2", "par"), [""; 0]);
        let other =
            json!({"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "arg1", "value": ""}});
        assert!(complete(&serde_json::from_value(other).unwrap()).is_none());
    }
}
