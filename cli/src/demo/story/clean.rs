//! What the demo made is taken away again, whether or not the story ended well.

use std::time::Duration;

use postern_proto::v1::account_service_client::AccountServiceClient;
use postern_proto::v1::consumer_service_client::ConsumerServiceClient;
use postern_proto::v1::host_service_client::HostServiceClient;
use postern_proto::v1::notification_service_client::NotificationServiceClient;
use postern_proto::v1::provider_service_client::ProviderServiceClient;
use postern_proto::v1::topic_service_client::TopicServiceClient;
use postern_proto::v1::vpc_service_client::VpcServiceClient;
use postern_proto::v1::{
    DeleteApiKeyRequest, DeleteHostAttachmentRequest, DeleteSecurityGroupRequest,
    DeleteSubnetRequest, DeleteTopicRequest, DeleteVpcEndpointConnectionNotificationsRequest,
    DeleteVpcEndpointServiceConfigurationsRequest, DeleteVpcEndpointsRequest, DeleteVpcRequest,
    UnsuccessfulItem, VpcEndpointState,
};

use super::{Made, Story, differs};
use crate::demo::steps::Steps;
use crate::exit::Failure;
use crate::verbs::call;

impl Story {
    /// Takes everything away again, the last made first.
    pub async fn clean_up(&mut self, steps: &mut Steps) -> Result<(), Failure> {
        let limit = steps.limit();
        steps
            .step("The demo cleans up behind itself", async {
                let mut made = std::mem::take(&mut self.made);
                let count = made.len();
                let mut faults = Vec::new();
                // The keys come last: everything else needs them.
                made.sort_by_key(|made| !matches!(made, Made::Key(_)));
                while let Some(thing) = made.pop() {
                    if let Err(failure) = self.unmake(&thing, limit).await {
                        faults.push(format!("{thing:?}: {}", failure.sentence()));
                    }
                }
                match faults.is_empty() {
                    true => Ok(((), format!("{count} things"))),
                    false => Err(differs(faults.join("\n"))),
                }
            })
            .await
    }

    async fn unmake(&self, thing: &Made, limit: Duration) -> Result<(), Failure> {
        let provider = || self.provider().map(|player| &player.connection);
        let consumer = || self.consumer().map(|player| &player.connection);
        match thing.clone() {
            Made::Key(api_key_id) => {
                let request = DeleteApiKeyRequest { api_key_id };
                call!(self.operator, control_plane, AccountServiceClient, delete_api_key, request)?;
            }
            Made::ProviderVpc(vpc_id) => {
                let request = DeleteVpcRequest { vpc_id };
                call!(provider()?, control_plane, VpcServiceClient, delete_vpc, request)?;
            }
            Made::ConsumerVpc(vpc_id) => {
                let request = DeleteVpcRequest { vpc_id };
                call!(consumer()?, control_plane, VpcServiceClient, delete_vpc, request)?;
            }
            Made::Subnet(subnet_id) => {
                let request = DeleteSubnetRequest { subnet_id };
                call!(consumer()?, control_plane, VpcServiceClient, delete_subnet, request)?;
            }
            Made::Group(group_id) => {
                let request = DeleteSecurityGroupRequest { group_id };
                call!(
                    consumer()?,
                    control_plane,
                    VpcServiceClient,
                    delete_security_group,
                    request
                )?;
            }
            Made::Attachment(attachment_id) => {
                let request = DeleteHostAttachmentRequest { attachment_id };
                call!(
                    self.operator,
                    control_plane,
                    HostServiceClient,
                    delete_host_attachment,
                    request
                )?;
            }
            Made::Topic(topic_arn) => {
                let request = DeleteTopicRequest { topic_arn };
                call!(provider()?, topics, TopicServiceClient, delete_topic, request)?;
            }
            Made::Notification(id) => {
                let request = DeleteVpcEndpointConnectionNotificationsRequest {
                    connection_notification_ids: vec![id],
                };
                let answer = call!(
                    provider()?,
                    control_plane,
                    NotificationServiceClient,
                    delete_vpc_endpoint_connection_notifications,
                    request
                )?;
                all_done(&answer.unsuccessful)?;
            }
            Made::Service(id) => {
                let request =
                    DeleteVpcEndpointServiceConfigurationsRequest { service_ids: vec![id] };
                let answer = call!(
                    provider()?,
                    control_plane,
                    ProviderServiceClient,
                    delete_vpc_endpoint_service_configurations,
                    request
                )?;
                all_done(&answer.unsuccessful)?;
            }
            Made::Endpoint(id) => {
                let request = DeleteVpcEndpointsRequest { vpc_endpoint_ids: vec![id.clone()] };
                let answer = call!(
                    consumer()?,
                    control_plane,
                    ConsumerServiceClient,
                    delete_vpc_endpoints,
                    request
                )?;
                all_done(&answer.unsuccessful)?;
                let gone = &[VpcEndpointState::Deleted];
                crate::wait::settled(consumer()?, &id, gone, limit).await?;
            }
        }
        Ok(())
    }
}

fn all_done(unsuccessful: &[UnsuccessfulItem]) -> Result<(), Failure> {
    match unsuccessful {
        [] => Ok(()),
        [item, ..] => Err(differs(format!("{}: {}", item.code, item.message))),
    }
}
